/*
 * owncommit.c
 *		See owncommit.h. Runs in user backends, at each commit that was captured: memory of fixed
 *		size, nothing that can fail.
 *
 * The numbers in the log are exact. The keys are of use for what leaves no trace in the queue, a
 * conflict that waits for a person; those of a subtransaction that was rolled back may be among
 * them.
 */
#include "postgres.h"

#include "sync/owncommit.h"

static OwnCommit commits[2];
static OwnCommit *open = &commits[0];	/* of the transaction under way */
static OwnCommit *last = &commits[1];

static void clear(OwnCommit *commit);

void
angles_own_number(Oid sequence, int64 id)
{
	open->sequence = sequence;
	if (open->first_id == 0)
		open->first_id = id;
	open->last_id = id;
}

void
angles_own_key(int32 link_id, const char *key, int len)
{
	int32		head[2] = {link_id, len};

	if (open->many_keys)
		return;
	if (len > ANGLES_OWN_BYTES - (int) sizeof(head) - open->used)
	{
		open->many_keys = true;
		return;
	}
	memcpy(open->keys + open->used, head, sizeof(head));
	memcpy(open->keys + open->used + sizeof(head), key, len);
	open->used += sizeof(head) + len;
	open->n_keys++;
}

void
angles_own_link(int32 link_id)
{
	for (int i = 0; i < open->n_links; i++)
		if (open->links[i] == link_id)
			return;
	if (open->n_links == ANGLES_OWN_LINKS)
		open->many_links = true;
	else
		open->links[open->n_links++] = link_id;
}

void
angles_own_committed(void)
{
	OwnCommit  *committed = open;

	if (!angles_own_is_open())
		return;
	open = last;
	last = committed;
	clear(open);
}

void
angles_own_forget(void)
{
	if (angles_own_is_open() || open->n_keys > 0 || open->many_keys)
		clear(open);
}

bool
angles_own_is_open(void)
{
	return open->first_id != 0 || open->n_links > 0;
}

const OwnCommit *
angles_own_last(void)
{
	return last->first_id != 0 || last->n_links > 0 ? last : NULL;
}

bool
angles_own_next_key(const OwnCommit *commit, int *at, int32 *link_id, const char **key, int *len)
{
	int32		head[2];

	if (*at >= commit->used)
		return false;
	memcpy(head, commit->keys + *at, sizeof(head));
	*link_id = head[0];
	*len = head[1];
	*key = commit->keys + *at + sizeof(head);
	*at += sizeof(head) + head[1];
	return true;
}

/* The keys themselves need not be wiped. */
static void
clear(OwnCommit *commit)
{
	MemSet(commit, 0, offsetof(OwnCommit, keys));
}
