/*
 * refusal.c
 *		See refusal.h. The words are GitHub's (docs.github.com, "Troubleshooting ... push
 *		protection", "About large files", "protected branches", "rulesets") and git's own
 *		(builtin/receive-pack.c, 2.39); they are looked for wherever they stand, so that another
 *		server's frame around them does no harm.
 */
#include "postgres.h"

#include <ctype.h>

#include "lib/stringinfo.h"
#include "utils/memutils.h"

#include "git/internal.h"
#include "git/refusal.h"

#define MOST_PATHS 100
#define LONGEST_PATH 4096

typedef struct CodeWords
{
	const char *name;
	const char *message;
	const char *hint;
	bool		retry;
} CodeWords;

/* In the order of GitPushCode. */
static const CodeWords codes[] = {
	{"ok", "", "", false},
	{"lease_lost", "the remote was changed by somebody else",
		"Look at what was pushed there. Nothing was overwritten; angles.backup_continue() begins a "
	"new branch when you say so.", false},
	{"non_fast_forward", "the new commit does not continue the remote's branch",
		"Nothing was overwritten. Look at what was pushed there; angles.backup_continue() begins a "
	"new branch when you say so.", false},
	{"protected", "the branch is protected",
		"In the settings of the repository let the token's owner push to this branch, or take the "
	"protection from it; angles only ever adds commits.", false},
	{"rules", "the push breaks a rule of the repository",
		"See what the server said, and allow the token's owner to bypass that rule, or change it.",
	false},
	{"secret", "the server found a secret in the backup",
		"The places are named. Set a policy (seal, hash, omit) for these columns; the backup must "
	"be made anew, as the history is searched, too.", false},
	{"large_file", "a file is larger than the server allows",
		"The file is named by the server. GitHub takes files up to 100 MB; leave the column out or "
	"make its values smaller.", false},
	{"hook", "a hook of the server declined the push",
	"See what the server said; ask the one who runs it.", false},
	{"rejected", "the server refused the push",
	"See what the server said.", false},
	{"unpack", "the server could not take the objects",
		"See what the server said: often its disk is full or its copy damaged. The local "
	"repository is checked by angles.verify_backup().", true},
	{"auth", "the server does not accept the token",
		"Make a new token that may read and write the contents of this repository, and put it "
	"where angles.github_token_file or the named secret says.", false},
	{"forbidden", "the token may not push to this repository",
	"Give the token the right to read and write contents (\"Contents: read and write\").", false},
	{"read_only", "the repository is archived and can only be read",
	"Take it out of the archive in its settings, or set another address.", false},
	{"not_found", "there is no such repository, or the token cannot see it",
		"Check the address, and that the token was made for this repository: GitHub answers 404 "
	"for what a token cannot see.", false},
	{"too_large", "the push is larger than the server accepts",
		"Raise the limit of the web server (nginx: client_max_body_size), or back up fewer tables "
	"at a time.", false},
	{"rate_limit", "the server asks for a pause",
	"The push is tried again when the pause is over.", true},
	{"server", "the server has a problem of its own",
	"The push is tried again.", true},
	{"redirect", "the repository has moved",
	"Set the address to the new one if it is yours; the token was not sent there.", false},
	{"protocol", "the answer is not that of a git server",
		"Check the address; it is that of a repository, as for git clone. A proxy in between may "
	"answer in its place.", false},
	{"network", "the server cannot be reached, or the connection broke",
	"The remote is as it was. The push is tried again.", true},
	{"unknown", "nobody knows whether the push arrived",
	"The next push reads the remote's refs first and finds out.", true},
};

StaticAssertDecl(lengthof(codes) == GIT_PUSH_UNKNOWN + 1, "each code has its words");

static bool has(const char *text, size_t len, const char *words);
static GitPushCode recognise(const char *text, size_t len, const char *reason,
							 bool unpack_failed);
static void read_places(GitPushResult *result, const char *text, size_t len);
static void read_large_files(GitPushResult *result, const char *text, size_t len);
static bool add_path(GitPushResult *result, const char *path, size_t len, const char *kind,
					 const char *commit);
static char *frame_title(const char *line, size_t len);

const char *
angles_git_push_code(GitPushCode code)
{
	return codes[code].name;
}

void
angles_refusal_set(GitPushResult *result, GitPushCode code, const char *detail)
{
	MemoryContext before = MemoryContextSwitchTo(GetMemoryChunkContext(result));

	result->code = code;
	result->retry = codes[code].retry;
	result->message = detail == NULL ? pstrdup(codes[code].message) :
		psprintf("%s: %s", codes[code].message, detail);
	result->hint = pstrdup(codes[code].hint);
	MemoryContextSwitchTo(before);
}

void
angles_refusal_hint(GitPushResult *result, const char *hint)
{
	result->hint = MemoryContextStrdup(GetMemoryChunkContext(result), hint);
}

/* ---------- words ---------- */

void
angles_refusal_read(GitPushResult *result, const char *text, size_t len, const char *reason,
					bool unpack_failed)
{
	GitPushCode code = recognise(text, len, reason, unpack_failed);
	MemoryContext before = MemoryContextSwitchTo(GetMemoryChunkContext(result));
	char	   *shown = pstrdup(reason);

	for (char *c = shown; *c; c++)
		*c = *c >= ' ' && *c <= '~' ? *c : '?';
	angles_refusal_set(result, code, shown[0] != '\0' ? shown : NULL);
	if (code == GIT_PUSH_SECRET)
		read_places(result, text, len);
	else if (code == GIT_PUSH_LARGE_FILE)
		read_large_files(result, text, len);
	MemoryContextSwitchTo(before);
}

static GitPushCode
recognise(const char *text, size_t len, const char *reason, bool unpack_failed)
{
	size_t		reason_len = strlen(reason);

#define SAID(words) (has(text, len, (words)) || has(reason, reason_len, (words)))
	if (SAID("GH001") || SAID("file size limit"))
		return GIT_PUSH_LARGE_FILE;
	if (SAID("GH009") || SAID("push protection") || SAID("cannot contain secrets"))
		return GIT_PUSH_SECRET;
	if (SAID("GH013") || SAID("repository rule violations"))
		return GIT_PUSH_RULES;
	if (SAID("GH006") || SAID("protected branch"))
		return GIT_PUSH_PROTECTED;
	if (SAID("repository was archived") || SAID("archived so it is read-only"))
		return GIT_PUSH_READ_ONLY;
	if (has(reason, reason_len, "non-fast-forward") || has(reason, reason_len, "fetch first"))
		return GIT_PUSH_NON_FAST_FORWARD;
	if (has(reason, reason_len, "hook declined"))
		return GIT_PUSH_HOOK;
	/* somebody else had the ref between the advertisement and the command */
	if (has(reason, reason_len, "cannot lock ref") ||
		has(reason, reason_len, "failed to update ref") ||
		has(reason, reason_len, "incorrect old value") ||
		has(reason, reason_len, "reference already exists") ||
		has(reason, reason_len, "stale info"))
		return GIT_PUSH_LEASE_LOST;
#undef SAID
	return unpack_failed ? GIT_PUSH_UNPACK : GIT_PUSH_REJECTED;
}

/* Case does not matter. The text may hold NULs. */
static bool
has(const char *text, size_t len, const char *words)
{
	size_t		words_len = strlen(words);

	for (size_t i = 0; i + words_len <= len; i++)
	{
		if (pg_strncasecmp(text + i, words, words_len) == 0)
			return true;
	}
	return false;
}

/* ---------- places ---------- */

/*
 *		—— GitHub Personal Access Token ——————————————————
 *		 locations:
 *		   - commit: 8728dbe67
 *			 path: data/public.notes/00/a.copy:4
 */
static void
read_places(GitPushResult *result, const char *text, size_t len)
{
	const char *end = text + len;
	char	   *kind = "";
	char	   *commit = "";

	while (text < end)
	{
		const char *line_end = memchr(text, '\n', end - text);
		const char *next = line_end != NULL ? line_end + 1 : end;
		const char *at = text;
		char	   *title;

		if (line_end == NULL)
			line_end = end;
		while (at < line_end && (*at == ' ' || *at == '\t' || *at == '-'))
			at++;
		while (line_end > at && (unsigned char) line_end[-1] <= ' ')
			line_end--;
		title = frame_title(at, line_end - at);
		if (title != NULL)
			kind = title;
		else if (line_end - at > 8 && memcmp(at, "commit: ", 8) == 0)
			commit = pnstrdup(at + 8, Min(line_end - at - 8, GIT_OID_HEX));
		else if (line_end - at > 6 && memcmp(at, "path: ", 6) == 0 &&
				 !add_path(result, at + 6, line_end - at - 6, kind, commit))
			return;
		text = next;
	}
}

/* "—— words ———": returns the words, NULL for another line. The dash is U+2014. */
static char *
frame_title(const char *line, size_t len)
{
	const char *end = line + len;
	char	   *title;

	if (len < 3 || memcmp(line, "\xe2\x80\x94", 3) != 0)
		return NULL;
	while (end - line >= 3 && (memcmp(line, "\xe2\x80\x94", 3) == 0 || *line == ' '))
		line += *line == ' ' ? 1 : 3;
	while (end - line >= 3 && (memcmp(end - 3, "\xe2\x80\x94", 3) == 0 || end[-1] == ' '))
		end -= end[-1] == ' ' ? 1 : 3;
	if (end - line < 3)
		return NULL;
	title = pnstrdup(line, Min(end - line, 100));
	for (char *c = title; *c; c++)
		*c = *c >= ' ' && *c <= '~' ? *c : '?';
	return title;
}

/* "File data/x.copy is 120.00 MB; this exceeds GitHub's file size limit of 100.00 MB" */
static void
read_large_files(GitPushResult *result, const char *text, size_t len)
{
	const char *end = text + len;

	while (text < end)
	{
		const char *line_end = memchr(text, '\n', end - text);
		const char *file;
		char	   *line;
		char	   *is;

		line_end = line_end != NULL ? line_end : end;
		line = pnstrdup(text, line_end - text);
		text = line_end + 1;
		file = strstr(line, "File ");
		is = file != NULL ? strstr(file, "; this exceeds") : NULL;
		if (is == NULL)
			continue;
		*is = '\0';
		/* the last " is " stands before the size; a name may hold others */
		while (is > file + 5 && strncmp(is, " is ", 4) != 0)
			is--;
		if (is > file + 5 && !add_path(result, file + 5, is - file - 5, "large file", ""))
			return;
	}
}

/* Takes "PATH" or "PATH:LINE". False when there are enough. */
static bool
add_path(GitPushResult *result, const char *path, size_t len, const char *kind, const char *commit)
{
	GitNamedPath *place;
	size_t		digits = 0;

	if (len > LONGEST_PATH)
		return true;
	for (size_t i = 0; i < len; i++)
	{
		if ((unsigned char) path[i] < ' ' || path[i] == 127)
			return true;
	}
	if (result->n_paths == MOST_PATHS)
		return false;
	if (result->paths == NULL)
		result->paths = palloc0(MOST_PATHS * sizeof(GitNamedPath));
	place = &result->paths[result->n_paths++];
	while (digits < len && digits < 9 && isdigit((unsigned char) path[len - digits - 1]))
		digits++;
	if (digits > 0 && len > digits + 1 && path[len - digits - 1] == ':')
	{
		place->line = atoi(pnstrdup(path + len - digits, digits));
		len -= digits + 1;
	}
	place->path = pnstrdup(path, len);
	place->kind = pstrdup(kind);
	place->commit = pstrdup(commit);
	for (char *c = place->commit; *c; c++)
		*c = isxdigit((unsigned char) *c) ? *c : '?';
	return true;
}

/* ---------- HTTP ---------- */

void
angles_refusal_status(GitPushResult *result, int status, const char *body, size_t len,
					  int retry_after_s)
{
	GitPushCode code = GIT_PUSH_PROTOCOL;

	result->http_status = status;
	result->retry_after_s = retry_after_s;
	if (status == 401)
		code = GIT_PUSH_AUTH;
	else if (status == 403 && (has(body, len, "archived") || has(body, len, "read-only")))
		code = GIT_PUSH_READ_ONLY;
	else if (status == 429 || (status == 403 && (retry_after_s >= 0 ||
												 has(body, len, "rate limit"))))
		code = GIT_PUSH_RATE_LIMIT;
	else if (status == 403)
		code = GIT_PUSH_FORBIDDEN;
	else if (status == 404 || status == 410)
		code = GIT_PUSH_NOT_FOUND;
	else if (status == 413)
		code = GIT_PUSH_TOO_LARGE;
	else if (status >= 500)
		code = GIT_PUSH_SERVER;
	else if (status >= 300 && status < 400)
		code = GIT_PUSH_REDIRECT;
	angles_refusal_set(result, code, psprintf("HTTP status %d", status));
}

void
angles_refusal_keep_text(GitPushResult *result, const char *text, size_t len, const char *secret)
{
	MemoryContext before = MemoryContextSwitchTo(GetMemoryChunkContext(result));
	StringInfoData kept;

	initStringInfo(&kept);
	MemoryContextSwitchTo(before);
	/* a page of a web server says less than its status */
	for (size_t i = 0; i < len && kept.len < MAX_SERVER_TEXT; i++)
	{
		unsigned char c = text[i];

		if (i == 0 && c == '<')
			break;
		/* progress is overwritten on a terminal by what follows the carriage return */
		if (c == '\n' || c == '\r')
		{
			if (kept.len > 0 && kept.data[kept.len - 1] != '\n')
				appendStringInfoChar(&kept, '\n');
		}
		else
			appendStringInfoChar(&kept, c >= ' ' && c <= '~' ? (char) c : '?');
	}
	while (kept.len > 0 && isspace((unsigned char) kept.data[kept.len - 1]))
		kept.data[--kept.len] = '\0';
	angles_refusal_hide(kept.data, secret);
	result->server_text = kept.data;
}

void
angles_refusal_hide(char *text, const char *secret)
{
	char	   *found = text;

	if (secret == NULL || secret[0] == '\0')
		return;
	while ((found = strstr(found, secret)) != NULL)
	{
		memset(found, '*', strlen(secret));
		found += strlen(secret);
	}
}
