/*
 * gittest.c
 *		SQL functions for the tests of the room git; nothing at all without -DANGLES_TEST. Declared
 *		by test/git/functions.sql. They run in a user's session, which no other code of this room
 *		does.
 */
#include "postgres.h"

#ifdef ANGLES_TEST

#include <sys/resource.h>

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

#include "git/internal.h"
#include "git/refusal.h"
#include "git/wire.h"

PG_FUNCTION_INFO_V1(angles_git_test_commit);
PG_FUNCTION_INFO_V1(angles_git_test_fill);
PG_FUNCTION_INFO_V1(angles_git_test_read);
PG_FUNCTION_INFO_V1(angles_git_test_walk);
PG_FUNCTION_INFO_V1(angles_git_test_verify);
PG_FUNCTION_INFO_V1(angles_git_test_ref_update);
PG_FUNCTION_INFO_V1(angles_git_test_refs);
PG_FUNCTION_INFO_V1(angles_git_test_head);
PG_FUNCTION_INFO_V1(angles_git_test_push);
PG_FUNCTION_INFO_V1(angles_git_test_remote_refs);
PG_FUNCTION_INFO_V1(angles_git_test_parse);
PG_FUNCTION_INFO_V1(angles_git_test_fuzz);
PG_FUNCTION_INFO_V1(angles_git_test_limit);
PG_FUNCTION_INFO_V1(angles_git_test_large_offsets);

/* A file of a tree that is being put together. */
typedef struct TestFile
{
	char	   *path;
	GitOid		id;
} TestFile;

static GitOid tree_of(GitPack *pack, TestFile *files, int n, size_t skip);
static GitOid commit_tree(GitRepo *repo, GitPack *pack, GitOid tree, const char *ref,
						  const char *parent, const char *message, int64 when);
static GitOid oid_arg(const char *hex);
static char *text_or_null(FunctionCallInfo fcinfo, int arg);
static void put_line(FunctionCallInfo fcinfo, const char *line);
static bool on_entry(void *arg, const char *path, int mode, const GitOid *id);
static int	compare_files(const void *a, const void *b);
static char *parse(const char *kind, const char *data, size_t len);

/* commit(path, ref, names text[], contents bytea[], parent, level, message, at): its id. */
Datum
angles_git_test_commit(PG_FUNCTION_ARGS)
{
	GitRepo    *repo = angles_git_open(text_or_null(fcinfo, 0), true);
	GitPack    *pack = angles_git_pack_begin(repo, PG_GETARG_INT32(5));
	Datum	   *names;
	Datum	   *contents;
	int			n;
	int			n_contents;
	TestFile   *files;
	GitOid		id;
	char		hex[GIT_OID_HEX + 1];

	deconstruct_array(PG_GETARG_ARRAYTYPE_P(2), TEXTOID, -1, false, TYPALIGN_INT, &names, NULL, &n);
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(3), BYTEAOID, -1, false, TYPALIGN_INT, &contents, NULL,
					  &n_contents);
	files = palloc0((n + 1) * sizeof(TestFile));
	for (int i = 0; i < n; i++)
	{
		bytea	   *content = DatumGetByteaPP(contents[i]);

		files[i].path = TextDatumGetCString(names[i]);
		angles_git_pack_blob(pack, VARDATA_ANY(content), VARSIZE_ANY_EXHDR(content), &files[i].id);
	}
	qsort(files, n, sizeof(TestFile), compare_files);
	id = commit_tree(repo, pack, tree_of(pack, files, n, 0), text_or_null(fcinfo, 1),
					 text_or_null(fcinfo, 4), text_or_null(fcinfo, 6), PG_GETARG_INT64(7));
	PG_RETURN_TEXT_P(cstring_to_text(angles_git_hex(&id, hex)));
}

static int
compare_files(const void *a, const void *b)
{
	return strcmp(((const TestFile *) a)->path, ((const TestFile *) b)->path);
}

/* Files that begin with the same folder stand together. */
static GitOid
tree_of(GitPack *pack, TestFile *files, int n, size_t skip)
{
	GitTreeEntry *entries = palloc0((n + 1) * sizeof(GitTreeEntry));
	int			n_entries = 0;
	GitOid		id;

	for (int i = 0; i < n;)
	{
		char	   *name = files[i].path + skip;
		char	   *slash = strchr(name, '/');
		GitTreeEntry *entry = &entries[n_entries++];
		int			end = i + 1;

		if (slash == NULL)
		{
			entry->name = name;
			entry->mode = ANGLES_GIT_MODE_FILE;
			entry->id = files[i].id;
		}
		else
		{
			size_t		len = slash + 1 - name;

			while (end < n && strncmp(files[end].path + skip, name, len) == 0)
				end++;
			entry->name = pnstrdup(name, len - 1);
			entry->mode = ANGLES_GIT_MODE_TREE;
			entry->id = tree_of(pack, files + i, end - i, skip + len);
		}
		i = end;
	}
	angles_git_pack_tree(pack, entries, n_entries, &id);
	return id;
}

static GitOid
commit_tree(GitRepo *repo, GitPack *pack, GitOid tree, const char *ref, const char *parent,
			const char *message, int64 when)
{
	GitOid		parent_id = oid_arg(parent);
	GitCommitSpec spec = {.tree = tree,.parents = &parent_id,.n_parents = parent != NULL};
	GitOid		id;

	spec.author = (GitSignature) {.name = "Árpád Tester",.email = "t@example.com",.when = when,
		.offset_min = -90
	};
	spec.committer = (GitSignature) {.name = "angles",.email = "angles@example.com",.when = when};
	spec.message = message;
	angles_git_pack_commit(pack, &spec, &id);
	angles_git_pack_finish(pack, NULL);
	if (ref != NULL && !angles_git_ref_update(repo, ref, &id, &parent_id))
		elog(ERROR, "the ref has another value");
	return id;
}

/*
 * fill(path, ref, n, size, seed, every, parent, level): commits n files of about "size" bytes in
 * folders of 48; every "every"-th depends on the seed. Returns "COMMIT OBJECTS REUSED BYTES".
 */
Datum
angles_git_test_fill(PG_FUNCTION_ARGS)
{
	GitRepo    *repo = angles_git_open(text_or_null(fcinfo, 0), true);
	int			n = PG_GETARG_INT32(2);
	int			size = PG_GETARG_INT32(3);
	int64		seed = PG_GETARG_INT64(4);
	int			every = PG_GETARG_INT32(5);
	GitPack    *pack = angles_git_pack_begin(repo, PG_GETARG_INT32(7));
	TestFile   *files = palloc0((n + 1) * sizeof(TestFile));
	StringInfoData content;
	GitOid		id;
	char		hex[GIT_OID_HEX + 1];
	int64		bytes;

	initStringInfo(&content);
	for (int i = 0; i < n; i++)
	{
		uint64		state = (uint64) i * UINT64CONST(0x9e3779b97f4a7c15) +
			(every > 0 && i % every == 0 ? (uint64) seed : 0) + 1;

		resetStringInfo(&content);
		while (content.len < size)
		{
			state = state * UINT64CONST(6364136223846793005) + UINT64CONST(1442695040888963407);
			appendStringInfo(&content, "%llu\trow of a table\t%x\n",
							 (unsigned long long) (state >> 40), (unsigned) (state >> 50));
		}
		files[i].path = psprintf("data/public.t/%04d/%06d.copy", i / 48, i);
		angles_git_pack_blob(pack, content.data, content.len, &files[i].id);
	}
	id = tree_of(pack, files, n, 0);
	bytes = angles_git_pack_size(pack);
	id = commit_tree(repo, pack, id, text_or_null(fcinfo, 1), text_or_null(fcinfo, 6), "filled",
					 1700000000 + seed);
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("%s %lld", angles_git_hex(&id, hex),
											  (long long) bytes)));
}

/* read(path, commit, file): its bytes, or NULL. */
Datum
angles_git_test_read(PG_FUNCTION_ARGS)
{
	GitRepo    *repo = angles_git_open(text_or_null(fcinfo, 0), false);
	GitOid		commit = oid_arg(text_or_null(fcinfo, 1));
	GitTreeEntry entry;
	size_t		len;
	char	   *data;
	bytea	   *result;

	if (!angles_git_lookup(repo, &commit, text_or_null(fcinfo, 2), &entry))
		PG_RETURN_NULL();
	data = angles_git_read_blob(repo, &entry.id, &len);
	result = palloc(VARHDRSZ + len);
	SET_VARSIZE(result, VARHDRSZ + len);
	memcpy(VARDATA(result), data, len);
	PG_RETURN_BYTEA_P(result);
}

/* walk(path, commit): "MODE ID PATH" for each entry, and first the commit's own words. */
Datum
angles_git_test_walk(PG_FUNCTION_ARGS)
{
	GitRepo    *repo = angles_git_open(text_or_null(fcinfo, 0), false);
	GitOid		id = oid_arg(text_or_null(fcinfo, 1));
	GitCommit  *commit = angles_git_read_commit(repo, &id);

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	put_line(fcinfo, psprintf("%s|%s|%lld|%d|%s|%d|%s", commit->author.name, commit->author.email,
							  (long long) commit->author.when, commit->author.offset_min,
							  commit->committer.name, commit->n_parents, commit->message));
	angles_git_walk(repo, &commit->tree, on_entry, fcinfo);
	return (Datum) 0;
}

static bool
on_entry(void *arg, const char *path, int mode, const GitOid *id)
{
	char		hex[GIT_OID_HEX + 1];

	put_line(arg, psprintf("%06o %s %s", mode, angles_git_hex(id, hex), path));
	return true;
}

/* verify(path, commit, history, part, parts): "objects N", then "ID|PATH|PROBLEM". */
Datum
angles_git_test_verify(PG_FUNCTION_ARGS)
{
	GitRepo    *repo = angles_git_open(text_or_null(fcinfo, 0), false);
	GitOid		id = oid_arg(text_or_null(fcinfo, 1));
	GitVerifyResult *result = angles_git_verify(repo, &id, 1, PG_GETARG_BOOL(2),
												PG_GETARG_INT32(3), PG_GETARG_INT32(4));
	char		hex[GIT_OID_HEX + 1];

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	put_line(fcinfo, psprintf("objects %lld", (long long) result->objects));
	for (int i = 0; i < result->n_damaged; i++)
		put_line(fcinfo, psprintf("%s|%s|%s", angles_git_hex(&result->damaged[i].id, hex),
								  result->damaged[i].path, result->damaged[i].problem));
	return (Datum) 0;
}

/* ref_update(path, name, new or NULL: delete, expected or NULL: any): whether it was moved. */
Datum
angles_git_test_ref_update(PG_FUNCTION_ARGS)
{
	GitRepo    *repo = angles_git_open(text_or_null(fcinfo, 0), true);
	char	   *name = text_or_null(fcinfo, 1);
	GitOid		id = oid_arg(text_or_null(fcinfo, 2));
	GitOid		expected = oid_arg(text_or_null(fcinfo, 3));
	const GitOid *lease = PG_ARGISNULL(3) ? NULL : &expected;

	if (PG_ARGISNULL(2))
		PG_RETURN_BOOL(angles_git_ref_delete(repo, name, lease));
	PG_RETURN_BOOL(angles_git_ref_update(repo, name, &id, lease));
}

/* refs(path): "ID NAME". */
Datum
angles_git_test_refs(PG_FUNCTION_ARGS)
{
	GitRepo    *repo = angles_git_open(text_or_null(fcinfo, 0), false);
	char		hex[GIT_OID_HEX + 1];
	int			n;
	GitRef	   *refs = angles_git_ref_list(repo, "refs/", &n);

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	for (int i = 0; i < n; i++)
		put_line(fcinfo, psprintf("%s %s", angles_git_hex(&refs[i].id, hex), refs[i].name));
	return (Datum) 0;
}

/* head(path, branch or NULL): what HEAD names, after it was set. */
Datum
angles_git_test_head(PG_FUNCTION_ARGS)
{
	GitRepo    *repo = angles_git_open(text_or_null(fcinfo, 0), true);

	if (!PG_ARGISNULL(1))
		angles_git_head_set(repo, text_or_null(fcinfo, 1));
	PG_RETURN_TEXT_P(cstring_to_text(angles_git_head_read(repo)));
}

/* push(path, url, updates text[] of "NAME NEW EXPECTED [rewrite]", secret, idle_ms, total_ms) */
Datum
angles_git_test_push(PG_FUNCTION_ARGS)
{
	GitRepo    *repo = angles_git_open(text_or_null(fcinfo, 0), false);
	GitRemote	remote = {text_or_null(fcinfo, 1), text_or_null(fcinfo, 3), PG_GETARG_INT32(4),
	PG_GETARG_INT32(5)};
	Datum	   *lines;
	int			n;
	GitRefUpdate *updates;
	GitPushResult *result;
	StringInfoData paths;
	char		hex[GIT_OID_HEX + 1];
	TupleDesc	desc;
	Datum		values[14];
	bool		nulls[14] = {false};

	deconstruct_array(PG_GETARG_ARRAYTYPE_P(2), TEXTOID, -1, false, TYPALIGN_INT, &lines, NULL, &n);
	updates = palloc0((n + 1) * sizeof(GitRefUpdate));
	for (int i = 0; i < n; i++)
	{
		char	   *words[4] = {0};
		char	   *at = TextDatumGetCString(lines[i]);

		for (int j = 0; j < 4 && at != NULL; j++)
		{
			words[j] = at;
			at = strchr(at, ' ');
			if (at != NULL)
				*at++ = '\0';
		}
		updates[i] = (GitRefUpdate) {words[0], oid_arg(words[1]), oid_arg(words[2]),
			words[3] != NULL
		};
	}
	result = angles_git_push(repo, &remote, updates, n, NULL, NULL);
	initStringInfo(&paths);
	for (int i = 0; i < result->n_paths; i++)
		appendStringInfo(&paths, "%s%s|%d|%s|%s", i > 0 ? "\n" : "", result->paths[i].path,
						 result->paths[i].line, result->paths[i].kind, result->paths[i].commit);
	values[0] = CStringGetTextDatum(angles_git_push_code(result->code));
	values[1] = BoolGetDatum(result->sent);
	values[2] = BoolGetDatum(result->reconciled);
	values[3] = BoolGetDatum(result->retry);
	values[4] = Int32GetDatum(result->http_status);
	values[5] = Int32GetDatum(result->retry_after_s);
	values[6] = CStringGetTextDatum(result->ref != NULL ? result->ref : "");
	values[7] = CStringGetTextDatum(angles_git_hex(&result->remote_id, hex));
	values[8] = CStringGetTextDatum(result->message);
	values[9] = CStringGetTextDatum(result->server_text);
	values[10] = CStringGetTextDatum(result->hint);
	values[11] = CStringGetTextDatum(result->moved_to != NULL ? result->moved_to : "");
	values[12] = CStringGetTextDatum(paths.data);
	values[13] = CStringGetTextDatum(psprintf("%lld objects %lld bytes",
											  (long long) result->objects,
											  (long long) result->bytes));
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "not declared as a record");
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

/* remote_refs(url): "ID NAME", or "CODE: MESSAGE" when they cannot be read. */
Datum
angles_git_test_remote_refs(PG_FUNCTION_ARGS)
{
	GitRemote	remote = {text_or_null(fcinfo, 0), NULL, 0, 0};
	GitPushResult *result;
	char		hex[GIT_OID_HEX + 1];
	int			n;
	GitRef	   *refs = angles_git_remote_refs(&remote, &n, &result);

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	if (refs == NULL)
		put_line(fcinfo, psprintf("%s: %s", angles_git_push_code(result->code), result->message));
	for (int i = 0; i < n; i++)
		put_line(fcinfo, psprintf("%s %s", angles_git_hex(&refs[i].id, hex), refs[i].name));
	return (Datum) 0;
}

/* parse(kind, bytes): what is read out of an answer of that kind. */
Datum
angles_git_test_parse(PG_FUNCTION_ARGS)
{
	bytea	   *bytes = PG_GETARG_BYTEA_PP(1);

	PG_RETURN_TEXT_P(cstring_to_text(parse(text_or_null(fcinfo, 0), VARDATA_ANY(bytes),
										   VARSIZE_ANY_EXHDR(bytes))));
}

static char *
parse(const char *kind, const char *data, size_t len)
{
	StringInfoData out;
	const char *problem = "";

	initStringInfo(&out);
	if (strcmp(kind, "advert") == 0)
	{
		Advert		advert;
		bool		good = angles_wire_advert(data, len, &advert, &problem);

		appendStringInfo(&out, "%s refs=%d have=%d atomic=%d v2=%d band=%d",
						 good ? "good" : problem, advert.n, advert.n_have, advert.atomic,
						 advert.report_status_v2, advert.side_band);
	}
	else if (strcmp(kind, "tree") == 0)
	{
		GitTree    *tree = angles_git_parse_tree(data, len, &problem);

		appendStringInfo(&out, "%s %d", problem, tree != NULL ? tree->n : -1);
	}
	else if (strcmp(kind, "commit") == 0)
	{
		GitCommit  *commit = angles_git_parse_commit(data, len, &problem);

		appendStringInfo(&out, "%s %d", problem, commit != NULL ? commit->n_parents : -1);
	}
	else
	{
		GitPushResult *result = palloc0(sizeof(GitPushResult));
		Report		report;

		angles_wire_report(data, len, strcmp(kind, "bands") == 0, &report);
		angles_refusal_read(result, report.text, report.text_len,
							report.n > 0 && report.refs[0].refusal ? report.refs[0].refusal : "",
							false);
		angles_refusal_keep_text(result, report.text, report.text_len, NULL);
		appendStringInfo(&out, "complete=%d unpack=%s refs=%d code=%s paths=%d", report.complete,
						 report.unpack != NULL ? "said" : "", report.n,
						 angles_git_push_code(result->code), result->n_paths);
	}
	return out.data;
}

/*
 * fuzz(kind, sample, n, seed): parses n damaged copies of a sample, each in memory of exactly its
 * size, and returns how many different things were read out of them.
 */
Datum
angles_git_test_fuzz(PG_FUNCTION_ARGS)
{
	char	   *kind = text_or_null(fcinfo, 0);
	bytea	   *sample = PG_GETARG_BYTEA_PP(1);
	int			sample_len = VARSIZE_ANY_EXHDR(sample);
	uint64		state = (uint64) PG_GETARG_INT32(3);
	int			good = 0;

	for (int i = 0; i < PG_GETARG_INT32(2); i++)
	{
		MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "fuzz",
												  ALLOCSET_DEFAULT_SIZES);
		MemoryContext before = MemoryContextSwitchTo(cxt);
		char	   *copy;
		int			len = sample_len;

#define NEXT (state = state * UINT64CONST(6364136223846793005) + 1, (int) (state >> 40))
		CHECK_FOR_INTERRUPTS();
		if (NEXT % 3 == 0)
			len = NEXT % (sample_len + 1);
		/* malloc'd, so that valgrind sees a byte too far */
		copy = malloc(Max(len, 1));
		memcpy(copy, VARDATA_ANY(sample), len);
		for (int j = NEXT % 8; j > 0 && len > 0; j--)
		{
			int			at = NEXT % len;

			copy[at] = NEXT % 4 == 0 ? "0f\n \0 \xe2-"[NEXT % 8] : (char) NEXT;
		}
#undef NEXT
		if (strstr(parse(kind, copy, len), "good") != NULL)
			good++;
		free(copy);
		MemoryContextSwitchTo(before);
		MemoryContextDelete(cxt);
	}
	PG_RETURN_INT32(good);
}

/* limit(bytes): files of this session cannot grow above it, as on a full disk; -1: they can. */
Datum
angles_git_test_limit(PG_FUNCTION_ARGS)
{
	struct rlimit limit;

	getrlimit(RLIMIT_FSIZE, &limit);
	limit.rlim_cur = PG_GETARG_INT64(0) < 0 ? limit.rlim_max : (rlim_t) PG_GETARG_INT64(0);
	if (setrlimit(RLIMIT_FSIZE, &limit) < 0)
		elog(ERROR, "could not set the limit: %m");
	PG_RETURN_VOID();
}

/* large_offsets(from): offsets from this one on go into the index's table of large ones. */
Datum
angles_git_test_large_offsets(PG_FUNCTION_ARGS)
{
	angles_git_test_large_offset = (uint64) PG_GETARG_INT64(0);
	PG_RETURN_VOID();
}

static GitOid
oid_arg(const char *hex)
{
	GitOid		id;

	if (hex == NULL || !angles_git_parse_hex(hex, &id))
		memset(&id, 0, sizeof(id));
	return id;
}

static char *
text_or_null(FunctionCallInfo fcinfo, int arg)
{
	return PG_ARGISNULL(arg) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(arg));
}

static void
put_line(FunctionCallInfo fcinfo, const char *line)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Datum		value = CStringGetTextDatum(line);
	bool		null = false;

	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, &value, &null);
}

#endif							/* ANGLES_TEST */
