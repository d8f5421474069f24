/*
 * webhook.c
 *		The inbox for Notion's webhooks: tells who sent a request, reads what an event is about,
 *		and keeps the token that Notion sends once.
 *
 * Runs in the sessions of an HTTP front end, for strangers: nothing here may fail because of what a
 * request holds, wait, or use the network. A small file is read and one HMAC computed. Of an event
 * only ids, type and time are taken, never a value: what changed is what Notion answers when it is
 * asked. So a body that somebody caught and sends again does no more than make the worker ask.
 */
#include "postgres.h"

#include <ctype.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "access/detoast.h"
#include "access/htup_details.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "utils/builtins.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "core/clock.h"
#include "core/errors.h"
#include "core/guc.h"
#include "core/json.h"
#include "core/secret.h"
#include "core/shmem.h"
#include "notion/api.h"
#include "sync/webhook.h"

/* Events hold ids only, and a handshake a token. */
#define MAX_BODY (1024 * 1024)
#define MAX_HANDSHAKE 4096

#define SIGNATURE_PREFIX "sha256="
#define SIGNATURE_BYTES 32

/* Notion's tokens have about 50 characters; what is much shorter is none. */
#define MIN_TOKEN 8
#define MAX_TOKEN 255

/* Ids and types are much shorter. */
#define MAX_NAME 100

/* A refused request is told of in the audit trail at once, further ones together after this. */
#define TELL_US USECS_PER_MINUTE

/* Columns of what angles.webhook_read() returns. */
enum
{
	READ_VERDICT, READ_ID, READ_TYPE, READ_ENTITY_TYPE, READ_ENTITY_ID, READ_DATA_SOURCE_ID,
	READ_DATABASE_ID, READ_SENT_AT, READ_ATTEMPT, READ_BOT, READ_COLUMNS
};

/*
 * Refused requests are counted in shared memory: a flood of them shall cost no write. What was
 * counted and not told is lost with the server.
 */
typedef struct RefusedCount
{
	pg_atomic_uint32 dboid;		/* InvalidOid: free */
	pg_atomic_uint64 refused;	/* since they were told of last */
	pg_atomic_uint64 told_us;	/* when that was (mono), 0: never */
} RefusedCount;

typedef struct RefusedCounts
{
	int			n;
	RefusedCount counts[FLEXIBLE_ARRAY_MEMBER];
} RefusedCounts;

static RefusedCounts *refused_counts = NULL;

static Size counts_size(void);
static void counts_init(void *part);
static RefusedCount *my_count(void);
static const char *verdict(bytea *body, text *signature, const char *secret, Datum *values,
						   bool *nulls);
static bool is_signed(bytea *body, text *signature, const char *token);
static bool parse_signature(const text *signature, unsigned char *bytes);
static int	hex_digit(char c);
static char *handshake_token(bytea *body);
static bool same_token(const char *a, const char *b);
static bool read_event(bytea *body, Datum *values, bool *nulls);
static char *short_text(JsonbContainer *object, const char *name);
static void set_id(Datum *values, bool *nulls, int column, JsonbContainer *object,
				   const char *name);
static char *only_bot(JsonbContainer *event);
static int32 attempt_number(JsonbContainer *event);
static JsonbContainer *parse_body(bytea *body);

PG_FUNCTION_INFO_V1(angles_webhook_keep);
PG_FUNCTION_INFO_V1(angles_webhook_knows);
PG_FUNCTION_INFO_V1(angles_webhook_read);
PG_FUNCTION_INFO_V1(angles_webhook_refused);

void
angles_webhook_install(void)
{
	angles_shmem_register("angles webhooks", counts_size, counts_init, (void **) &refused_counts);
}

static Size
counts_size(void)
{
	return offsetof(RefusedCounts, counts) + angles_guc_max_databases * sizeof(RefusedCount);
}

static void
counts_init(void *part)
{
	RefusedCounts *all = (RefusedCounts *) part;

	all->n = angles_guc_max_databases;
	for (int i = 0; i < all->n; i++)
	{
		pg_atomic_init_u32(&all->counts[i].dboid, InvalidOid);
		pg_atomic_init_u64(&all->counts[i].refused, 0);
		pg_atomic_init_u64(&all->counts[i].told_us, 0);
	}
}

/*
 * Returns the count of this database. A place is never given back; should all be taken, in a server
 * where many databases came and went, the last one is shared: a number is then too high somewhere.
 */
static RefusedCount *
my_count(void)
{
	for (int i = 0; i < refused_counts->n; i++)
	{
		uint32		found = InvalidOid;

		if (pg_atomic_compare_exchange_u32(&refused_counts->counts[i].dboid, &found,
										   MyDatabaseId) || found == MyDatabaseId)
			return &refused_counts->counts[i];
	}
	return &refused_counts->counts[refused_counts->n - 1];
}

/*
 * Counts a request that was refused (true), and returns how many there were when it is time to tell
 * of them, else 0. They are told of once: by whom this returns their number to.
 */
Datum
angles_webhook_refused(PG_FUNCTION_ARGS)
{
	bool		refused = PG_GETARG_BOOL(0);
	RefusedCount *count;
	uint64		told_us;
	uint64		now = angles_clock_mono_us();

	if (refused_counts == NULL)
		PG_RETURN_INT64(refused ? 1 : 0);
	count = my_count();
	if (refused)
		pg_atomic_fetch_add_u64(&count->refused, 1);
	told_us = pg_atomic_read_u64(&count->told_us);
	if (pg_atomic_read_u64(&count->refused) == 0 ||
		(told_us != 0 && now - told_us < TELL_US) ||
		!pg_atomic_compare_exchange_u64(&count->told_us, &told_us, now))
		PG_RETURN_INT64(0);
	PG_RETURN_INT64(pg_atomic_exchange_u64(&count->refused, 0));
}

/* ---- requests ---- */

/*
 * Returns what a request is, and of an event what it is about: see angles.webhook_read() in SQL.
 */
Datum
angles_webhook_read(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	Datum		values[READ_COLUMNS] = {0};
	bool		nulls[READ_COLUMNS];
	const char *result;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE ||
		desc->natts != READ_COLUMNS)
		elog(ERROR, "angles.webhook_read() is declared in another way");
	if (!angles_preloaded())
		ereport(ERROR,
				(errcode(ERRCODE_ANGLES_NOT_PRELOADED),
				 errmsg("angles is not loaded by shared_preload_libraries"),
				 errdetail("No worker could ask Notion for what has changed."),
				 errhint("Add angles to shared_preload_libraries and restart the server.")));
	memset(nulls, true, sizeof(nulls));
	if (PG_ARGISNULL(0) || PG_ARGISNULL(2))
		result = "empty";
	else if (toast_raw_datum_size(PG_GETARG_DATUM(0)) - VARHDRSZ > MAX_BODY)
		result = "too large";
	else
		result = verdict(PG_GETARG_BYTEA_PP(0), PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1),
						 text_to_cstring(PG_GETARG_TEXT_PP(2)), values, nulls);
	values[READ_VERDICT] = CStringGetTextDatum(result);
	nulls[READ_VERDICT] = false;
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}

/* Nothing of a body is looked into before its signature is found right, but for a handshake. */
static const char *
verdict(bytea *body, text *signature, const char *secret, Datum *values, bool *nulls)
{
	char	   *token = angles_secret_named(secret);
	char	   *sent = NULL;
	bool		is_true = token != NULL && signature != NULL && is_signed(body, signature, token);
	const char *result;

	if (is_true && read_event(body, values, nulls))
		result = "event";
	else if ((sent = handshake_token(body)) != NULL)
		result = token != NULL && same_token(sent, token) ? "known" : "handshake";
	else if (is_true)
		result = "unreadable";
	else if (token == NULL)
		result = "no token";
	else
		result = signature == NULL ? "unsigned" : "forged";
	angles_secret_free(sent);
	angles_secret_free(token);
	return result;
}

static bool
is_signed(bytea *body, text *signature, const char *token)
{
	unsigned char given[SIGNATURE_BYTES];
	unsigned char right[EVP_MAX_MD_SIZE];
	unsigned int len = 0;

	if (!parse_signature(signature, given))
		return false;
	if (HMAC(EVP_sha256(), token, (int) strlen(token), (unsigned char *) VARDATA_ANY(body),
			 VARSIZE_ANY_EXHDR(body), right, &len) == NULL || len != SIGNATURE_BYTES)
		elog(ERROR, "could not compute an HMAC");
	return CRYPTO_memcmp(given, right, SIGNATURE_BYTES) == 0;
}

static bool
parse_signature(const text *signature, unsigned char *bytes)
{
	int			skip = strlen(SIGNATURE_PREFIX);
	const char *p = VARDATA_ANY(signature);

	if (VARSIZE_ANY_EXHDR(signature) != skip + 2 * SIGNATURE_BYTES ||
		strncmp(p, SIGNATURE_PREFIX, skip) != 0)
		return false;
	p += skip;
	for (int i = 0; i < SIGNATURE_BYTES; i++)
	{
		int			high = hex_digit(p[2 * i]);
		int			low = hex_digit(p[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		bytes[i] = high * 16 + low;
	}
	return true;
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* ---- the handshake ---- */

/*
 * Keeps the token of a handshake as the secret of that name. Returns false, and keeps nothing, when
 * there is one already that may not be replaced.
 */
Datum
angles_webhook_keep(PG_FUNCTION_ARGS)
{
	char	   *sent = handshake_token(PG_GETARG_BYTEA_PP(0));
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(1));
	bool		replace = PG_GETARG_BOOL(2);
	char	   *token = angles_secret_named(name);
	bool		kept = sent != NULL && (token == NULL || replace);

	if (kept)
		angles_secret_keep(name, sent);
	angles_secret_free(sent);
	angles_secret_free(token);
	PG_RETURN_BOOL(kept);
}

/*
 * Returns whether there is a secret of that name. Raises an error when there is no place for it
 * and, unless one is there that stays, when it cannot be written.
 */
Datum
angles_webhook_knows(PG_FUNCTION_ARGS)
{
	char	   *token = angles_secret_named(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	bool		known = token != NULL;

	angles_secret_free(token);
	angles_secret_check_dir(!known || PG_GETARG_BOOL(1));
	PG_RETURN_BOOL(known);
}

/* Returns the token that Notion sends when a subscription is made, or NULL when this is no such. */
static char *
handshake_token(bytea *body)
{
	JsonbContainer *message;
	char	   *token;
	size_t		len;

	if (VARSIZE_ANY_EXHDR(body) > MAX_HANDSHAKE || (message = parse_body(body)) == NULL ||
		(token = angles_json_get_text(message, "verification_token")) == NULL)
		return NULL;
	len = strlen(token);
	if (len < MIN_TOKEN || len > MAX_TOKEN)
		return NULL;
	for (const char *p = token; *p; p++)
		if (!isgraph((unsigned char) *p) || (unsigned char) *p > '~')
			return NULL;
	return token;
}

static bool
same_token(const char *a, const char *b)
{
	return strlen(a) == strlen(b) && CRYPTO_memcmp(a, b, strlen(a)) == 0;
}

/* ---- events ---- */

/* Returns false when it is no event: it has no id or no type. */
static bool
read_event(bytea *body, Datum *values, bool *nulls)
{
	JsonbContainer *event = parse_body(body);
	char	   *id = short_text(event, "id");
	char	   *type = short_text(event, "type");
	JsonbContainer *entity = angles_json_get_container(event, "entity");
	JsonbContainer *data = angles_json_get_container(event, "data");
	JsonbContainer *parent = angles_json_get_container(data, "parent");
	char	   *entity_type = short_text(entity, "type");
	char	   *parent_type = short_text(parent, "type");
	char	   *bot = only_bot(event);
	TimestampTz sent_at;

	if (id == NULL || type == NULL)
		return false;
	values[READ_ID] = CStringGetTextDatum(id);
	values[READ_TYPE] = CStringGetTextDatum(type);
	values[READ_ATTEMPT] = Int32GetDatum(attempt_number(event));
	nulls[READ_ID] = nulls[READ_TYPE] = nulls[READ_ATTEMPT] = false;
	sent_at = angles_notion_time(event, "timestamp");
	values[READ_SENT_AT] = TimestampTzGetDatum(sent_at);
	nulls[READ_SENT_AT] = sent_at == 0;
	values[READ_BOT] = bot ? CStringGetTextDatum(bot) : (Datum) 0;
	nulls[READ_BOT] = bot == NULL;
	set_id(values, nulls, READ_ENTITY_ID, entity, "id");
	if (entity_type != NULL)
	{
		values[READ_ENTITY_TYPE] = CStringGetTextDatum(entity_type);
		nulls[READ_ENTITY_TYPE] = false;
		if (strcmp(entity_type, "data_source") == 0)
			set_id(values, nulls, READ_DATA_SOURCE_ID, entity, "id");
		else if (strcmp(entity_type, "database") == 0)
			set_id(values, nulls, READ_DATABASE_ID, entity, "id");
	}
	if (parent_type != NULL && strcmp(parent_type, "database") == 0)
		set_id(values, nulls, READ_DATABASE_ID, parent, "id");
	else if (parent_type != NULL && strcmp(parent_type, "data_source") == 0)
		set_id(values, nulls, READ_DATA_SOURCE_ID, parent, "id");
	set_id(values, nulls, READ_DATA_SOURCE_ID, parent, "data_source_id");
	return true;
}

static char *
short_text(JsonbContainer *object, const char *name)
{
	char	   *text = angles_json_get_text(object, name);

	return text != NULL && text[0] != '\0' && strlen(text) <= MAX_NAME ? text : NULL;
}

/* Leaves a column as it is when the object has no such id. */
static void
set_id(Datum *values, bool *nulls, int column, JsonbContainer *object, const char *name)
{
	char	   *text = short_text(object, name);
	char	   *id = text ? angles_notion_parse_id(text) : NULL;

	if (id == NULL)
		return;
	values[column] = DirectFunctionCall1(uuid_in, CStringGetDatum(id));
	nulls[column] = false;
}

/* Returns who did what an event is about, when that was one bot alone; else NULL. */
static char *
only_bot(JsonbContainer *event)
{
	JsonbContainer *authors = angles_json_get_container(event, "authors");
	JsonbContainer *author = authors != NULL && JsonContainerIsArray(authors) &&
		JsonContainerSize(authors) == 1 ? angles_json_element(authors, 0) : NULL;
	char	   *type = short_text(author, "type");

	return type != NULL && strcmp(type, "bot") == 0 ? short_text(author, "id") : NULL;
}

static int32
attempt_number(JsonbContainer *event)
{
	JsonbValue	value;
	char	   *text;

	if (!angles_json_get(event, "attempt_number", &value) || value.type != jbvNumeric)
		return 1;
	/* not a cast, which would raise an error for what is out of range */
	text = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value.val.numeric)));
	return Max(1, Min(strtol(text, NULL, 10), 1000));
}

static JsonbContainer *
parse_body(bytea *body)
{
	char	   *problem;
	Jsonb	   *json = angles_json_parse(VARDATA_ANY(body), VARSIZE_ANY_EXHDR(body), &problem);

	return json != NULL ? &json->root : NULL;
}
