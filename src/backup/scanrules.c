/*
 * scanrules.c
 *		Secrets that are known by their form: tokens with a prefix, private keys, JSON web tokens,
 *		URIs with passwords.
 *
 * Sources of the forms: the makers' documentation of their tokens; where that is silent (lengths),
 * what tokens that were published look like. A length that a maker may change is a range.
 */
#include "postgres.h"

#include "backup/scanrules.h"

/* What a token is looked at for chance; longer ones by their beginning. */
#define LOOKED_AT 512

/* Line breaks within one token. */
#define MAX_BREAKS 3

static Size token_rule(Scan *scan, const ScanAnchor *anchor, Size at);
static Size aws_rule(Scan *scan, const ScanAnchor *anchor, Size at);
static Size pem_rule(Scan *scan, const ScanAnchor *anchor, Size at);
static Size pem64_rule(Scan *scan, const ScanAnchor *anchor, Size at);
static Size jwt_rule(Scan *scan, const ScanAnchor *anchor, Size at);
static Size uri_rule(Scan *scan, const ScanAnchor *anchor, Size at);
static Size hook_rule(Scan *scan, const ScanAnchor *anchor, Size at);
static Size telegram_rule(Scan *scan, const ScanAnchor *anchor, Size at);
static Size login_rule(Scan *scan, const ScanAnchor *anchor, Size at);
static bool is_template(const char *text, Size len);

#define HEX (SCAN_DIGIT | SCAN_HEX)
#define CAPITALS (SCAN_DIGIT | SCAN_UPPER)
#define SMALL (SCAN_DIGIT | SCAN_LOWER)
#define HOOK (SCAN_URLSAFE | SCAN_BASE64)
#define TOKEN token_rule

const ScanAnchor angles_scan_tokens[] = {
	/* GitHub: github.blog, "Behind GitHub's new authentication token formats" */
	{"ghp_", TOKEN, "github-token", SCAN_ALNUM, 36, 251, SCAN_LINES},
	{"gho_", TOKEN, "github-token", SCAN_ALNUM, 36, 251, SCAN_LINES},
	{"ghu_", TOKEN, "github-token", SCAN_ALNUM, 36, 251, SCAN_LINES},
	{"ghs_", TOKEN, "github-token", SCAN_ALNUM, 36, 251, SCAN_LINES},
	/* of an app, since 2026: its number and a JSON web token */
	{"ghs_", TOKEN, "github-token", SCAN_URLSAFE | SCAN_DOT, 100, 2000, SCAN_MIXED},
	{"ghr_", TOKEN, "github-token", SCAN_ALNUM, 36, 251, SCAN_LINES},
	{"github_pat_", TOKEN, "github-token", SCAN_WORD, 70, 251, SCAN_LINES},
	/* Notion: developers.notion.com, changelog of 2024-09-25 */
	{"ntn_", TOKEN, "notion-token", SCAN_ALNUM, 40, 60, SCAN_LINES},
	{"secret_", TOKEN, "notion-token", SCAN_ALNUM, 43, 43, SCAN_LINES},
	/* AWS: docs.aws.amazon.com, "IAM identifiers", unique ids */
	{"AKIA", aws_rule, "aws-key-id", CAPITALS, 16, 16, 0},
	{"ASIA", aws_rule, "aws-key-id", CAPITALS, 16, 16, 0},
	{"ABIA", aws_rule, "aws-key-id", CAPITALS, 16, 16, 0},
	{"ACCA", aws_rule, "aws-key-id", CAPITALS, 16, 16, 0},
	{"A3T", aws_rule, "aws-key-id", CAPITALS, 17, 17, 0},
	{"amzn.mws.", TOKEN, "aws-mws-token", HEX | SCAN_DASH, 36, 36, 0},
	{"ABSK", TOKEN, "aws-bedrock-key", SCAN_ALNUM | SCAN_BASE64, 100, 300, 0},
	/* Slack: api.slack.com, "Token types" */
	{"xoxb-", TOKEN, "slack-token", SCAN_ALNUM | SCAN_DASH, 20, 250, SCAN_NUMBERS},
	{"xoxp-", TOKEN, "slack-token", SCAN_ALNUM | SCAN_DASH, 20, 250, SCAN_NUMBERS},
	{"xoxa-", TOKEN, "slack-token", SCAN_ALNUM | SCAN_DASH, 20, 250, SCAN_NUMBERS},
	{"xoxo-", TOKEN, "slack-token", SCAN_ALNUM | SCAN_DASH, 20, 250, SCAN_NUMBERS},
	{"xoxr-", TOKEN, "slack-token", SCAN_ALNUM | SCAN_DASH, 20, 250, SCAN_NUMBERS},
	{"xoxs-", TOKEN, "slack-token", SCAN_ALNUM | SCAN_DASH, 20, 250, SCAN_NUMBERS},
	{"xoxd-", TOKEN, "slack-token", SCAN_ALNUM | SCAN_DASH | SCAN_BASE64, 20, 400, SCAN_NUMBERS},
	{"xoxe-", TOKEN, "slack-token", SCAN_ALNUM | SCAN_DASH, 20, 250, SCAN_NUMBERS},
	{"xoxe.", TOKEN, "slack-token", SCAN_ALNUM | SCAN_DASH, 20, 250, SCAN_NUMBERS},
	{"xapp-", TOKEN, "slack-token", SCAN_ALNUM | SCAN_DASH | SCAN_BASE64, 20, 250, SCAN_MIXED},
	{"hooks.slack.com/services/", hook_rule, "slack-webhook", SCAN_WORD | SCAN_BASE64, 30, 120, 0},
	{"hooks.slack.com/workflows/", hook_rule, "slack-webhook", SCAN_WORD | SCAN_BASE64, 30, 120, 0},
	{"hooks.slack.com/triggers/", hook_rule, "slack-webhook", SCAN_WORD | SCAN_BASE64, 30, 120, 0},
	/* Google: cloud.google.com, "API keys", "OAuth 2.0" */
	{"AIza", TOKEN, "google-api-key", SCAN_URLSAFE, 35, 35, SCAN_LINES},
	{"GOCSPX-", TOKEN, "google-oauth-secret", SCAN_URLSAFE, 28, 28, 0},
	{"ya29.", TOKEN, "google-oauth-token", SCAN_URLSAFE | SCAN_DOT, 20, 2048, 0},
	{"1//0", TOKEN, "google-refresh-token", SCAN_URLSAFE, 40, 200, SCAN_MIXED},
	/* Stripe: docs.stripe.com/keys */
	{"sk_live_", TOKEN, "stripe-key", SCAN_ALNUM, 16, 247, 0},
	{"rk_live_", TOKEN, "stripe-key", SCAN_ALNUM, 16, 247, 0},
	{"sk_test_", TOKEN, "stripe-key", SCAN_ALNUM, 16, 247, 0},
	{"rk_test_", TOKEN, "stripe-key", SCAN_ALNUM, 16, 247, 0},
	{"sk_prod_", TOKEN, "stripe-key", SCAN_ALNUM, 16, 247, 0},
	{"rk_prod_", TOKEN, "stripe-key", SCAN_ALNUM, 16, 247, 0},
	{"whsec_", TOKEN, "stripe-webhook-secret", SCAN_ALNUM | SCAN_BASE64, 24, 128, SCAN_MIXED},
	/* OpenAI and others of its form */
	{"sk-", TOKEN, "openai-key", SCAN_URLSAFE, 32, 250, SCAN_MIXED},
	{"gsk_", TOKEN, "groq-key", SCAN_ALNUM, 48, 64, 0},
	{"xai-", TOKEN, "xai-key", SCAN_ALNUM, 70, 90, 0},
	{"hf_", TOKEN, "huggingface-token", SCAN_ALNUM, 30, 40, 0},
	{"api_org_", TOKEN, "huggingface-token", SCAN_ALNUM, 34, 34, 0},
	{"pplx-", TOKEN, "perplexity-key", SCAN_ALNUM, 40, 60, 0},
	{"r8_", TOKEN, "replicate-token", SCAN_ALNUM, 37, 37, 0},
	/* registries */
	{"npm_", TOKEN, "npm-token", SCAN_ALNUM, 36, 36, SCAN_LINES},
	{"pypi-AgEIcHlwaS5vcmc", TOKEN, "pypi-token", SCAN_URLSAFE, 50, 1000, 0},
	{"rubygems_", TOKEN, "rubygems-key", HEX, 48, 48, 0},
	{"dckr_pat_", TOKEN, "docker-token", SCAN_URLSAFE, 27, 27, 0},
	{"dckr_oat_", TOKEN, "docker-token", SCAN_URLSAFE, 32, 32, 0},
	{"AKCp", TOKEN, "artifactory-key", SCAN_ALNUM, 60, 80, 0},
	{"cio", TOKEN, "crates-key", SCAN_ALNUM, 32, 32, SCAN_MIXED},
	{"oy2", TOKEN, "nuget-key", SMALL, 43, 43, 0},
	/* others whose prefix is telling */
	{"glpat-", TOKEN, "gitlab-token", SCAN_URLSAFE | SCAN_DOT, 20, 300, 0},
	{"gldt-", TOKEN, "gitlab-token", SCAN_URLSAFE, 20, 64, 0},
	{"glrt-", TOKEN, "gitlab-token", SCAN_URLSAFE | SCAN_DOT, 20, 64, 0},
	{"glptt-", TOKEN, "gitlab-token", SCAN_URLSAFE, 20, 64, 0},
	{"GR1348941", TOKEN, "gitlab-token", SCAN_URLSAFE, 20, 20, 0},
	{"SG.", TOKEN, "sendgrid-key", SCAN_URLSAFE | SCAN_DOT, 66, 66, 0},
	{"shpat_", TOKEN, "shopify-token", HEX | SCAN_UPPER, 32, 32, 0},
	{"shpca_", TOKEN, "shopify-token", HEX | SCAN_UPPER, 32, 32, 0},
	{"shppa_", TOKEN, "shopify-token", HEX | SCAN_UPPER, 32, 32, 0},
	{"shpss_", TOKEN, "shopify-token", HEX | SCAN_UPPER, 32, 32, 0},
	{"dop_v1_", TOKEN, "digitalocean-token", HEX, 64, 64, 0},
	{"doo_v1_", TOKEN, "digitalocean-token", HEX, 64, 64, 0},
	{"dor_v1_", TOKEN, "digitalocean-token", HEX, 64, 64, 0},
	{"glsa_", TOKEN, "grafana-token", SCAN_WORD, 41, 41, 0},
	{"glc_", TOKEN, "grafana-token", SCAN_ALNUM | SCAN_BASE64, 32, 400, SCAN_MIXED},
	{"lin_api_", TOKEN, "linear-key", SCAN_ALNUM, 40, 40, 0},
	{"PMAK-", TOKEN, "postman-key", HEX | SCAN_DASH, 59, 59, 0},
	{"hvs.", TOKEN, "vault-token", SCAN_URLSAFE, 24, 300, SCAN_MIXED},
	{"hvb.", TOKEN, "vault-token", SCAN_URLSAFE, 24, 300, SCAN_MIXED},
	{"hvr.", TOKEN, "vault-token", SCAN_URLSAFE, 24, 300, SCAN_MIXED},
	{"sq0csp-", TOKEN, "square-secret", SCAN_URLSAFE, 43, 43, 0},
	{"sq0atp-", TOKEN, "square-token", SCAN_URLSAFE, 22, 22, 0},
	{"figd_", TOKEN, "figma-token", SCAN_URLSAFE, 40, 40, 0},
	{"AGE-SECRET-KEY-1", TOKEN, "age-key", CAPITALS, 58, 58, 0},
	{"tskey-", TOKEN, "tailscale-key", SCAN_ALNUM | SCAN_DASH, 24, 80, SCAN_MIXED},
	{"sntrys_", TOKEN, "sentry-token", SCAN_WORD | SCAN_BASE64, 60, 400, 0},
	{"dp.pt.", TOKEN, "doppler-token", SCAN_ALNUM, 40, 44, 0},
	{"dapi", TOKEN, "databricks-token", HEX, 32, 32, 0},
	{"ATATT3", TOKEN, "atlassian-token", SCAN_URLSAFE | SCAN_BASE64, 100, 250, 0},
	{"NRAK-", TOKEN, "newrelic-key", CAPITALS, 27, 27, 0},
	{"sbp_", TOKEN, "supabase-token", HEX, 40, 40, 0},
	{"sb_secret_", TOKEN, "supabase-key", SCAN_URLSAFE, 24, 64, 0},
	{"ops_eyJ", TOKEN, "1password-token", SCAN_URLSAFE | SCAN_BASE64, 200, 2000, 0},
	{"discord.com/api/webhooks/", hook_rule, "discord-webhook", HOOK, 60, 120, 0},
	{"discordapp.com/api/webhooks/", hook_rule, "discord-webhook", HOOK, 60, 120, 0},
	{" -u ", login_rule, "curl-password", 0, 0, 0, 0},
	{" --user ", login_rule, "curl-password", 0, 0, 0, 0},
	{":AA", telegram_rule, "telegram-token", SCAN_URLSAFE, 32, 34, 0},
	/* by structure */
	{"-----BEGIN", pem_rule, "private-key", 0, 0, 0, 0},
	{"LS0tLS1CRUdJTi", pem64_rule, "private-key", 0, 0, 0, 0},
	{"eyJ", jwt_rule, "jwt", 0, 0, 0, 0},
	{"://", uri_rule, "uri-password", 0, 0, 0, 0},
};
const int	angles_scan_n_tokens = lengthof(angles_scan_tokens);

/* ---- tokens with a prefix ---- */

/* Returns where a line goes on behind its break and the indentation of the next one, or 0. */
static Size
after_break(const Scan *scan, Size at)
{
	if (at < scan->len && scan->text[at] == '\\')
		at++;
	if (at < scan->len && scan->text[at] == '\r')
		at++;
	if (at >= scan->len || scan->text[at] != '\n')
		return 0;
	for (int i = 0; i < 16 && ++at < scan->len; i++)
	{
		if (scan->text[at] != ' ' && scan->text[at] != '\t')
			return at;
	}
	return 0;
}

static bool
is_mixed(const char *text, Size len)
{
	bool		digit = false;
	bool		letter = false;

	for (Size i = 0; i < len; i++)
	{
		digit |= SCAN_IS(text[i], SCAN_DIGIT);
		letter |= SCAN_IS(text[i], SCAN_LOWER | SCAN_UPPER);
	}
	return digit && letter;
}

static int
count_digits(const char *text, Size len)
{
	int			n = 0;

	for (Size i = 0; i < len; i++)
		n += SCAN_IS(text[i], SCAN_DIGIT);
	return n;
}

/* Returns where the token that begins at "at" ends, or 0. */
static Size
token_end(const Scan *scan, const ScanAnchor *anchor, Size at)
{
	char		seen[LOOKED_AT];
	int			n = 0;
	int			breaks = 0;
	Size		p = at;

	while (p < scan->len && n <= anchor->max)
	{
		if (SCAN_IS(scan->text[p], anchor->chars))
		{
			if (n < LOOKED_AT)
				seen[n] = scan->text[p];
			n++;
			p++;
		}
		else
		{
			Size		next = (anchor->flags & SCAN_LINES) && n < anchor->min &&
				breaks < MAX_BREAKS ? after_break(scan, p) : 0;

			if (next == 0 || !SCAN_IS(scan->text[next], anchor->chars))
				break;
			breaks++;
			p = next;
		}
	}
	/* behind a break there may be words: then it ends where it is complete, or not at all */
	if (n < anchor->min || n > anchor->max ||
		(p < scan->len && SCAN_IS(scan->text[p], SCAN_WORD)) ||
		(breaks > 0 && n != anchor->min && anchor->max - anchor->min < 100))
		return 0;
	n = Min(n, LOOKED_AT);
	if (!angles_scan_varied(seen, n, 4) || ((anchor->flags & SCAN_MIXED) && !is_mixed(seen, n)) ||
		angles_scan_contains(seen, n, "example") || angles_scan_contains(seen, n, "xxxxxx") ||
		(anchor->chars != CAPITALS && angles_scan_sequence(seen, n)) ||
		((anchor->flags & SCAN_NUMBERS) && count_digits(seen, n) < 6))
		return 0;
	return p;
}

static Size
token_rule(Scan *scan, const ScanAnchor *anchor, Size at)
{
	Size		end;

	if (!angles_scan_boundary(scan->text, at))
		return 0;
	end = token_end(scan, anchor, at + strlen(anchor->text));
	if (end > 0)
		angles_scan_note(scan, at, end, anchor->kind, 95);
	return end;
}

/* The id of a key, and the key itself where it stands near without a name. */
static Size
aws_rule(Scan *scan, const ScanAnchor *anchor, Size at)
{
	Size		end = token_rule(scan, anchor, at);
	Size		last = Min(scan->len, end + 200);
	const int	chars = SCAN_ALNUM | SCAN_BASE64;

	for (Size p = end; end > 0 && p < last;)
	{
		Size		start = p;
		const char *key = scan->text + start;

		while (p < scan->len && p - start <= 40 && SCAN_IS(scan->text[p], chars) &&
			   (p == start || scan->text[p] != '='))
			p++;
		if (p - start == 40 && *key != '=' && is_mixed(key, 40) &&
			angles_scan_varied(key, 40, 16) &&
			(p == scan->len || !SCAN_IS(scan->text[p], chars | SCAN_WORD)) &&
			!angles_scan_contains(key, 40, "example"))
		{
			angles_scan_note(scan, start, p, "aws-secret-key", 85);
			return p;
		}
		/* the rest of a longer run is no beginning */
		while (p < last && SCAN_IS(scan->text[p], chars) && p - start > 40)
			p++;
		p = Max(p, start + 1);
	}
	return end;
}

/* A URL that lets everybody who knows it write; its host stays. */
static Size
hook_rule(Scan *scan, const ScanAnchor *anchor, Size at)
{
	Size		start = at + strlen(anchor->text);
	Size		end = token_end(scan, anchor, start);

	if (end > 0)
		angles_scan_note(scan, start, end, anchor->kind, 95);
	return end;
}

/* 8 to 10 digits, a colon, "AA" and the rest: core.telegram.org/bots/features. */
static Size
telegram_rule(Scan *scan, const ScanAnchor *anchor, Size at)
{
	Size		start = at;
	Size		end;

	while (start > 0 && at - start < 11 && SCAN_IS(scan->text[start - 1], SCAN_DIGIT))
		start--;
	if (at - start < 8 || at - start > 10 || !angles_scan_boundary(scan->text, start))
		return 0;
	end = token_end(scan, anchor, at + strlen(anchor->text));
	if (end > 0)
		angles_scan_note(scan, start, end, anchor->kind, 95);
	return end;
}

/* ---- private keys ---- */

/* Returns where the next five dashes are, at or behind a place, or 0. */
static Size
next_dashes(const Scan *scan, Size at)
{
	while (at + 5 <= scan->len)
	{
		const char *dash = memchr(scan->text + at, '-', scan->len - at);

		if (dash == NULL)
			return 0;
		at = dash - scan->text;
		if (at + 5 <= scan->len && memcmp(dash, "-----", 5) == 0)
			return at;
		at++;
	}
	return 0;
}

/*
 * From BEGIN to END; without END, as far as it looks like a key. Each byte of the body is looked
 * at once: the next "-----" is where the next call begins, or behind it.
 */
static Size
pem_rule(Scan *scan, const ScanAnchor *anchor, Size at)
{
	Size		label = at + strlen(anchor->text);
	Size		body = next_dashes(scan, Min(label, scan->len));
	Size		end;
	int			run = 0;
	int			longest = 0;

	if (body == 0 || body - label > 60 ||
		!angles_scan_contains(scan->text + label, body - label, "private key"))
		return 0;
	body += 5;
	end = next_dashes(scan, body);
	for (Size p = body; p < (end ? end : scan->len); p++)
	{
		if (!SCAN_IS(scan->text[p], SCAN_ALNUM | SCAN_BASE64 | SCAN_SPACE | SCAN_DASH) &&
			strchr("\\\"',:;[]().", scan->text[p]) == NULL && end == 0)
		{
			end = p;
			break;
		}
		run = SCAN_IS(scan->text[p], SCAN_ALNUM | SCAN_BASE64) ? run + 1 : 0;
		longest = Max(longest, run);
	}
	if (longest < 24)
		return 0;
	if (end == 0)
		end = scan->len;
	else if (end + 8 <= scan->len && memcmp(scan->text + end, "-----END", 8) == 0)
	{
		Size		close = next_dashes(scan, end + 8);

		end = close && close - end < 70 ? close + 5 : end + 8;
	}
	angles_scan_note(scan, at, end, anchor->kind, 98);
	return end;
}

static int
base64_digit(char c)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *found = c ? strchr(digits, c) : NULL;

	return found ? (int) (found - digits) : -1;
}

/* A PEM file in base64 once more, as Kubernetes keeps it. */
static Size
pem64_rule(Scan *scan, const ScanAnchor *anchor, Size at)
{
	char		head[60];
	uint32		bits = 0;
	int			n_bits = 0;
	int			n = 0;
	Size		end = at;

	if (!angles_scan_boundary(scan->text, at))
		return 0;
	while (end < scan->len && SCAN_IS(scan->text[end], SCAN_ALNUM | SCAN_BASE64))
	{
		int			digit = base64_digit(scan->text[end++]);

		if (digit < 0 || n == sizeof(head))
			continue;
		bits = (bits << 6 | digit) & 0xFFFF;
		n_bits += 6;
		if (n_bits >= 8)
		{
			n_bits -= 8;
			head[n++] = (char) (bits >> n_bits);
		}
	}
	if (end - at < 100 || !angles_scan_contains(head, n, "private key"))
		return 0;
	angles_scan_note(scan, at, end, anchor->kind, 98);
	return end;
}

/* ---- JSON web tokens: RFC 7519 ---- */

static Size
jwt_rule(Scan *scan, const ScanAnchor *anchor, Size at)
{
	Size		p = at;
	Size		parts[3] = {0};
	int			n = 0;

	if (!angles_scan_boundary(scan->text, at))
		return 0;
	while (n < 3)
	{
		Size		start = p;

		while (p < scan->len && SCAN_IS(scan->text[p], SCAN_URLSAFE))
			p++;
		parts[n++] = p - start;
		if (n < 3)
		{
			if (p >= scan->len || scan->text[p] != '.')
				return 0;
			p++;
			/* the payload is an object, too */
			if (n == 1 && (p + 2 > scan->len || memcmp(scan->text + p, "ey", 2) != 0))
				return 0;
		}
	}
	/* "alg": "none" has no signature, and gives nobody a right */
	if (parts[0] < 16 || parts[1] < 8 || parts[2] < 16)
		return 0;
	angles_scan_note(scan, at, p, anchor->kind, 95);
	return p;
}

/* ---- URIs: RFC 3986, "userinfo" ---- */

static bool
is_template(const char *text, Size len)
{
	static const char *const words[] = {
		"your_password", "your-password", "yourpassword", "redacted", "xxx", "xxxx"
	};

	for (int i = 0; i < lengthof(words); i++)
	{
		if (len == strlen(words[i]) && pg_strncasecmp(text, words[i], len) == 0)
			return true;
	}
	for (Size i = 0; i < len; i++)
	{
		if (strchr("{}$*[]()", text[i]) != NULL && text[i] != '\0' &&
			(text[0] == text[i] || text[i] == '{' || text[i] == '*' || text[0] == '$'))
			return true;
	}
	return angles_scan_contains(text, len, "replace_") ||
		(text[0] == '%' && len > 1 && !SCAN_IS(text[1], SCAN_DIGIT | SCAN_UPPER)) ||
		!angles_scan_varied(text, len, 2);
}

/* The password alone is the secret: "scheme://user:password@host". */
static Size
uri_rule(Scan *scan, const ScanAnchor *anchor, Size at)
{
	const char *text = scan->text;
	Size		start = at + 3;
	Size		p;
	Size		colon = 0;
	Size		sign = 0;

	if (at < 2 || !SCAN_IS(text[at - 1], SCAN_ALNUM))
		return 0;
	for (p = start; p < scan->len && p - start < 600 && SCAN_IS(text[p], SCAN_USERINFO); p++)
	{
		if (text[p] == ':' && colon == 0)
			colon = p;
		/* of a list of hosts, the first; a password with an @ in it is followed by no comma */
		if (text[p] == '@' && colon != 0)
			sign = p;
		if (text[p] == ',' && sign != 0)
			break;
	}
	if (sign == 0 || sign - colon < 4 || is_template(text + colon + 1, sign - colon - 1))
		return 0;
	angles_scan_note(scan, colon + 1, sign, anchor->kind, 90);
	return sign;
}

/* "curl -u user:password": the words behind the name of the program, on its line. */
static Size
login_rule(Scan *scan, const ScanAnchor *anchor, Size at)
{
	const char *text = scan->text;
	Size		p = at + strlen(anchor->text);
	Size		line = at;
	Size		colon = 0;
	char		quote = ' ';

	while (line > 0 && at - line < 200 && text[line - 1] != '\n')
		line--;
	if (!angles_scan_contains(text + line, at - line, "curl"))
		return 0;
	if (p < scan->len && (text[p] == '"' || text[p] == '\''))
		quote = text[p++];
	for (Size start = p; p < scan->len && p - start < 200; p++)
	{
		if (text[p] == quote || text[p] == '>' || SCAN_IS(text[p], SCAN_SPACE))
			break;
		if (text[p] == ':' && colon == 0)
			colon = p;
	}
	if (colon == 0 || p - colon < 7 || is_template(text + colon + 1, p - colon - 1))
		return 0;
	angles_scan_note(scan, colon + 1, p, anchor->kind, 80);
	return p;
}
