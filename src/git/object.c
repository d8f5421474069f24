/*
 * object.c
 *		Reading objects: through libgit2, which hashes what it read; taken apart here, with bounds,
 *		since a repository may have been written by anybody.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "core/errors.h"
#include "git/internal.h"

static const char *type_name(git_object_t type);
static void raise_object(GitRepo *repo, const GitOid *id, const char *problem)
	pg_attribute_noreturn();
static char *read_typed(GitRepo *repo, const GitOid *id, GitType wanted, size_t *len);
static void *not_parsed(const char **problem, const char *what);
static bool take_line(const char **at, const char *end, const char *word, const char **value,
					  size_t *len);
static bool take_person(const char **at, const char *end, const char *role, GitSignature *who);
static void walk_level(GitRepo *repo, const GitOid *tree, const char *prefix, GitWalkFunc func,
					   void *arg, int depth);

/* Deeper trees are not ours, and a stranger's must not use up the stack. */
#define DEEPEST_TREE 200

/* ---------- ids ---------- */

char *
angles_git_hex(const GitOid *oid, char hex[GIT_OID_HEX + 1])
{
	static const char digits[] = "0123456789abcdef";

	for (int i = 0; i < GIT_OID_BYTES; i++)
	{
		hex[2 * i] = digits[oid->id[i] >> 4];
		hex[2 * i + 1] = digits[oid->id[i] & 15];
	}
	hex[GIT_OID_HEX] = '\0';
	return hex;
}

bool
angles_git_parse_hex(const char *hex, GitOid *oid)
{
	memset(oid, 0, sizeof(*oid));
	for (int i = 0; i < GIT_OID_HEX; i++)
	{
		char		c = hex[i];
		int			value = c >= '0' && c <= '9' ? c - '0' :
			c >= 'a' && c <= 'f' ? c - 'a' + 10 :
			c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;

		/* a NUL is none, either: nothing behind it is looked at */
		if (value < 0)
			return false;
		oid->id[i / 2] |= (unsigned char) (value << (i % 2 == 0 ? 4 : 0));
	}
	return hex[GIT_OID_HEX] == '\0';
}

bool
angles_git_is_zero(const GitOid *oid)
{
	static const GitOid zero = {{0}};

	return memcmp(oid, &zero, sizeof(zero)) == 0;
}

bool
angles_git_equal(const GitOid *a, const GitOid *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

/* ---------- reading ---------- */

bool
angles_git_exists(GitRepo *repo, const GitOid *id)
{
	return git_odb_exists(repo->odb, as_git_oid(id)) == 1;
}

char *
angles_git_read_any(GitRepo *repo, const GitOid *id, GitType *type, size_t *len)
{
	git_odb_object *object = NULL;
	git_object_t found;
	char	   *data;
	int			rc;

	CHECK_FOR_INTERRUPTS();
	rc = git_odb_read(&object, repo->odb, as_git_oid(id));
	if (rc < 0)
		raise_object(repo, id, rc == GIT_ENOTFOUND ? "it is missing" : angles_git_last_problem());
	*len = git_odb_object_size(object);
	found = git_odb_object_type(object);
	data = MemoryContextAllocExtended(CurrentMemoryContext, *len + 1,
									  MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
	if (data != NULL)
	{
		memcpy(data, git_odb_object_data(object), *len);
		data[*len] = '\0';
	}
	git_odb_object_free(object);
	if (data == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	if (found < GIT_OBJECT_COMMIT || found > GIT_OBJECT_TAG)
		raise_object(repo, id, "it is of no known type");
	*type = (GitType) found;
	return data;
}

static const char *
type_name(git_object_t type)
{
	return type == GIT_OBJECT_COMMIT ? "commit" : type == GIT_OBJECT_TREE ? "tree" :
		type == GIT_OBJECT_BLOB ? "blob" : "tag";
}

static void
raise_object(GitRepo *repo, const GitOid *id, const char *problem)
{
	char		hex[GIT_OID_HEX + 1];

	ereport(ERROR,
			(errcode(ERRCODE_ANGLES_GIT_OBJECT),
			 errmsg("object %s of the Git repository \"%s\" cannot be read",
					angles_git_hex(id, hex), repo->path),
			 errdetail("The reason: %s.", problem),
			 errhint("Fetch the repository anew from a remote, or move it away: the next backup "
					 "then makes a new one.")));
}

static char *
read_typed(GitRepo *repo, const GitOid *id, GitType wanted, size_t *len)
{
	GitType		type;
	char	   *data = angles_git_read_any(repo, id, &type, len);

	if (type != wanted)
		raise_object(repo, id, psprintf("it is a %s where a %s is wanted",
										type_name((git_object_t) type),
										type_name((git_object_t) wanted)));
	return data;
}

char *
angles_git_read_blob(GitRepo *repo, const GitOid *id, size_t *len)
{
	return read_typed(repo, id, ANGLES_GIT_BLOB, len);
}

GitTree *
angles_git_read_tree(GitRepo *repo, const GitOid *id)
{
	size_t		len;
	char	   *data = read_typed(repo, id, ANGLES_GIT_TREE, &len);

	const char *problem = NULL;
	/* its names point into "data" */
	GitTree    *tree = angles_git_parse_tree(data, len, &problem);

	if (tree == NULL)
		raise_object(repo, id, problem);
	return tree;
}

GitCommit *
angles_git_read_commit(GitRepo *repo, const GitOid *id)
{
	size_t		len;
	char	   *data = read_typed(repo, id, ANGLES_GIT_COMMIT, &len);

	const char *problem = NULL;
	GitCommit  *commit = angles_git_parse_commit(data, len, &problem);

	if (commit == NULL)
		raise_object(repo, id, problem);
	return commit;
}

/* ---------- taking apart ---------- */

GitTree *
angles_git_parse_tree(const char *data, size_t len, const char **problem)
{
	GitTree    *tree = palloc0(sizeof(GitTree));
	const char *end = data + len;
	int			room = 64;

	tree->entries = palloc(room * sizeof(GitTreeEntry));
	while (data < end)
	{
		GitTreeEntry *entry;
		const char *name_end;
		int			mode = 0;
		int			digits = 0;

		while (data < end && *data >= '0' && *data <= '7' && digits++ < 7)
			mode = mode * 8 + (*data++ - '0');
		if (digits == 0 || data >= end || *data != ' ')
			return not_parsed(problem, "the mode of an entry is malformed");
		data++;
		name_end = memchr(data, '\0', end - data);
		if (name_end == NULL || name_end == data || end - name_end - 1 < GIT_OID_BYTES)
			return not_parsed(problem, "the name of an entry is malformed");
		if (tree->n == room)
		{
			room *= 2;
			tree->entries = repalloc_huge(tree->entries, room * sizeof(GitTreeEntry));
		}
		entry = &tree->entries[tree->n++];
		entry->mode = mode;
		entry->name = data;
		memcpy(entry->id.id, name_end + 1, GIT_OID_BYTES);
		data = name_end + 1 + GIT_OID_BYTES;
	}
	return tree;
}

static void *
not_parsed(const char **problem, const char *what)
{
	*problem = what;
	return NULL;
}

GitCommit *
angles_git_parse_commit(const char *data, size_t len, const char **problem)
{
	GitCommit  *commit = palloc0(sizeof(GitCommit));
	const char *at = data;
	const char *end = data + len;
	const char *value;
	size_t		value_len;
	char		hex[GIT_OID_HEX + 1];
	int			room = 4;

	if (!take_line(&at, end, "tree ", &value, &value_len) || value_len != GIT_OID_HEX)
		return not_parsed(problem, "it is a commit without a tree");
	strlcpy(hex, value, sizeof(hex));
	if (!angles_git_parse_hex(hex, &commit->tree))
		return not_parsed(problem, "it is a commit without a tree");
	commit->parents = palloc(room * sizeof(GitOid));
	while (take_line(&at, end, "parent ", &value, &value_len))
	{
		if (commit->n_parents == room)
		{
			room *= 2;
			commit->parents = repalloc(commit->parents, room * sizeof(GitOid));
		}
		strlcpy(hex, value, sizeof(hex));
		if (value_len != GIT_OID_HEX ||
			!angles_git_parse_hex(hex, &commit->parents[commit->n_parents]))
			return not_parsed(problem, "the parent of the commit is malformed");
		commit->n_parents++;
	}
	if (!take_person(&at, end, "author ", &commit->author) ||
		!take_person(&at, end, "committer ", &commit->committer))
		return not_parsed(problem, "the author or committer of the commit is malformed");
	/* further headers (encoding, signatures) are not ours to read */
	while (at < end && *at != '\n')
	{
		const char *line_end = memchr(at, '\n', end - at);

		at = line_end == NULL ? end : line_end + 1;
	}
	commit->message = pnstrdup(at < end ? at + 1 : at, at < end ? end - at - 1 : 0);
	return commit;
}

/* Takes "WORD value\n". */
static bool
take_line(const char **at, const char *end, const char *word, const char **value, size_t *len)
{
	size_t		word_len = strlen(word);
	const char *line_end = memchr(*at, '\n', end - *at);

	if (line_end == NULL || (size_t) (line_end - *at) < word_len ||
		memcmp(*at, word, word_len) != 0)
		return false;
	*value = *at + word_len;
	*len = line_end - *value;
	*at = line_end + 1;
	return true;
}

static bool
take_person(const char **at, const char *end, const char *role, GitSignature *who)
{
	const char *value;
	size_t		len;
	char	   *line;
	char	   *open;
	char	   *close;
	long long	when;
	int			zone = 0;

	if (!take_line(at, end, role, &value, &len))
		return false;
	line = pnstrdup(value, len);
	open = strchr(line, '<');
	close = open == NULL ? NULL : strrchr(open, '>');
	if (close == NULL || sscanf(close + 1, " %lld %d", &when, &zone) < 1)
		return false;
	*close = '\0';
	who->email = open + 1;
	who->when = when;
	who->offset_min = zone / 100 * 60 + zone % 100;
	while (open > line && open[-1] == ' ')
		open--;
	*open = '\0';
	who->name = line;
	return true;
}

/* ---------- paths ---------- */

bool
angles_git_lookup(GitRepo *repo, const GitOid *commit, const char *path, GitTreeEntry *out)
{
	out->id = angles_git_read_commit(repo, commit)->tree;
	out->mode = ANGLES_GIT_MODE_TREE;
	out->name = "";
	while (*path != '\0')
	{
		size_t		len = strcspn(path, "/");
		GitTree    *tree;
		int			i;

		if (out->mode != ANGLES_GIT_MODE_TREE)
			return false;
		tree = angles_git_read_tree(repo, &out->id);
		for (i = 0; i < tree->n; i++)
		{
			if (strlen(tree->entries[i].name) == len &&
				memcmp(tree->entries[i].name, path, len) == 0)
				break;
		}
		if (i == tree->n)
			return false;
		*out = tree->entries[i];
		path += len;
		while (*path == '/')
			path++;
	}
	return true;
}

void
angles_git_walk(GitRepo *repo, const GitOid *tree, GitWalkFunc func, void *arg)
{
	walk_level(repo, tree, "", func, arg, 0);
}

static void
walk_level(GitRepo *repo, const GitOid *id, const char *prefix, GitWalkFunc func, void *arg,
		   int depth)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "angles tree",
											  ALLOCSET_DEFAULT_SIZES);
	MemoryContext before = MemoryContextSwitchTo(cxt);
	GitTree    *tree;

	if (depth > DEEPEST_TREE)
		raise_object(repo, id, "trees within trees without end");
	tree = angles_git_read_tree(repo, id);
	MemoryContextSwitchTo(before);
	for (int i = 0; i < tree->n; i++)
	{
		const GitTreeEntry *entry = &tree->entries[i];
		char	   *path = psprintf("%s%s", prefix, entry->name);

		CHECK_FOR_INTERRUPTS();
		if (func(arg, path, entry->mode, &entry->id) && entry->mode == ANGLES_GIT_MODE_TREE)
		{
			char	   *inside = psprintf("%s/", path);

			walk_level(repo, &entry->id, inside, func, arg, depth + 1);
			pfree(inside);
		}
		pfree(path);
	}
	MemoryContextDelete(cxt);
}

bool
angles_git_is_ancestor(GitRepo *repo, const GitOid *ancestor, const GitOid *commit)
{
	int			rc;

	if (angles_git_equal(ancestor, commit))
		return true;
	rc = git_graph_descendant_of(repo->repo, as_git_oid(commit), as_git_oid(ancestor));
	if (rc < 0)
		angles_git_raise("could not read the history of the Git repository");
	return rc == 1;
}
