# 400_merge.pl
#	The merge of one field (D1-D6, D8): a pure function, held against a second reading of its rules over
#	100,000 random triples; and what it promises: it ends, and order plays no part.
use strict;
use warnings;

use Test::More;

use AnglesTest;

my $node = new_cluster('main');

$node->sql(q{
	CREATE SCHEMA mergetest;
	CREATE FUNCTION mergetest.merge(is_set boolean, base jsonb, base_local jsonb, local jsonb, remote jsonb,
		policy text, local_at timestamptz, remote_at timestamptz, is_sum boolean, in_doubt boolean,
		OUT outcome text, OUT value jsonb, OUT conflict boolean)
		LANGUAGE c AS 'angles', 'angles_merge_test';

	-- the rules once more, as they stand in the manual
	CREATE FUNCTION mergetest.members(jsonb) RETURNS SETOF text LANGUAGE sql AS
		$$ SELECT jsonb_array_elements_text(coalesce($1, '[]')) $$;
	CREATE FUNCTION mergetest.nothing(v jsonb) RETURNS boolean LANGUAGE sql AS
		$$ SELECT v IN ('null', 'false', '[]') $$;
	CREATE FUNCTION mergetest.rules(is_set boolean, base jsonb, base_local jsonb, local jsonb, remote jsonb,
		policy text, local_at timestamptz, remote_at timestamptz, is_sum boolean, in_doubt boolean,
		OUT outcome text, OUT value jsonb, OUT conflict boolean)
		LANGUAGE plpgsql AS $$
	DECLARE
		theirs boolean := CASE WHEN base IS NULL THEN NOT mergetest.nothing(remote) ELSE remote <> base END;
		was jsonb := coalesce(base_local, base);
		ours boolean := CASE WHEN was IS NULL THEN NOT mergetest.nothing(local) ELSE local <> was END;
	BEGIN
		conflict := false;
		IF NOT theirs THEN outcome := 'same';
		ELSIF ours AND is_sum AND NOT in_doubt AND (SELECT bool_and(coalesce(jsonb_typeof(v), '') = 'number') FROM unnest(ARRAY[base, was, local, remote]) v) THEN
			outcome := 'join';
			value := to_jsonb(base::numeric + (local::numeric - was::numeric) + (remote::numeric - base::numeric));
		ELSIF local = remote THEN outcome := 'agree';
		ELSIF is_sum AND in_doubt THEN outcome := 'hold'; conflict := true;
		ELSIF NOT ours THEN outcome := 'take';
		ELSIF is_set THEN
			outcome := 'join';
			value := (SELECT coalesce(jsonb_agg(m ORDER BY m COLLATE "C"), '[]') FROM (
				SELECT m FROM mergetest.members(remote) m
				WHERE NOT (lower(m) IN (SELECT lower(b) FROM mergetest.members(was) b)
					AND lower(m) NOT IN (SELECT lower(l) FROM mergetest.members(local) l))
				UNION
				SELECT l FROM mergetest.members(local) l
				WHERE lower(l) NOT IN (SELECT lower(b) FROM mergetest.members(was) b)
					AND lower(l) NOT IN (SELECT lower(r) FROM mergetest.members(remote) r)) s);
		ELSE
			conflict := true;
			outcome := CASE policy WHEN 'manual' THEN 'hold' WHEN 'postgres' THEN 'keep' WHEN 'notion' THEN 'take'
				ELSE CASE WHEN local_at IS NULL OR local_at >= remote_at THEN 'keep' ELSE 'take' END END;
		END IF;
	END $$;

	-- random values around one base, so that equal ones are frequent
	CREATE FUNCTION mergetest.value(is_set boolean, is_sum boolean) RETURNS jsonb VOLATILE LANGUAGE sql AS $$
		SELECT CASE WHEN is_sum THEN (ARRAY['null', '10', '13', '12', '-4', '0', '0.1', '0.2', '0.3', '1.005', '9007199254740991',
				'123456789012.345', '1e+21', '-2147483648'])[1 + floor(random() * 14)]::jsonb
			WHEN is_set THEN (SELECT coalesce(jsonb_agg(DISTINCT m ORDER BY m), '[]')
				FROM unnest(ARRAY['a', 'B', 'b2', 'c']) m WHERE random() < 0.5)
			ELSE (ARRAY['null', 'false', 'true', '1', '2', '"x"', '"X"', '{"start": "2026-11-01"}'])[1 + floor(random() * 8)]::jsonb END $$;
	SELECT setseed(0.42);
	CREATE TABLE triple AS
		SELECT n, s AS is_set, k AS is_sum, k AND random() < 0.2 AS in_doubt,
			CASE WHEN random() < 0.9 THEN mergetest.value(s, k) END AS base,
			CASE WHEN random() < 0.2 THEN mergetest.value(s, k) END AS base_local,
			mergetest.value(s, k) AS local, mergetest.value(s, k) AS remote,
			(ARRAY['newest', 'postgres', 'notion', 'manual'])[1 + floor(random() * 4)] AS policy,
			CASE WHEN random() < 0.9 THEN '2026-11-01'::timestamptz + random() * interval '4 minutes' END AS local_at,
			'2026-11-01'::timestamptz + floor(random() * 5) * interval '1 minute' AS remote_at
		FROM (SELECT n, r < 0.35 AS s, r > 0.65 AS k FROM (SELECT n, random() AS r FROM generate_series(1, 100000) n) d) g});

is($node->sql('SELECT count(*) FROM triple'), 100000, 'there are 100,000 triples');
is($node->sql(q{SELECT string_agg(DISTINCT m.outcome, ' ' ORDER BY m.outcome) FROM triple t,
	mergetest.merge(is_set, base, base_local, local, remote, policy, local_at, remote_at, is_sum, in_doubt) m}),
	'agree hold join keep same take', 'every outcome comes up');
is($node->sql(q{SELECT count(*) FROM triple t,
		mergetest.merge(is_set, base, base_local, local, remote, policy, local_at, remote_at, is_sum, in_doubt) m,
		mergetest.rules(is_set, base, base_local, local, remote, policy, local_at, remote_at, is_sum, in_doubt) r
	WHERE (m.outcome, m.value, m.conflict) IS DISTINCT FROM (r.outcome, r.value, r.conflict)}), 0,
	'D1-D6, D8: the function and the rules agree on all of them');

# what a result leads to: the row's value, and what is agreed on then
my $after = q{SELECT t.*, m.outcome, CASE m.outcome WHEN 'take' THEN t.remote WHEN 'join' THEN m.value ELSE t.local END AS row,
		CASE WHEN m.outcome IN ('same', 'hold') THEN t.base ELSE t.remote END AS agreed,
		CASE WHEN m.outcome IN ('same', 'hold') THEN t.base_local END AS agreed_local
	FROM triple t, mergetest.merge(is_set, base, base_local, local, remote, policy, local_at, remote_at, is_sum, in_doubt) m};
is($node->sql(qq{SELECT count(*) FROM ($after) a,
		mergetest.merge(a.is_set, a.agreed, a.agreed_local, a.row, a.remote, a.policy, a.local_at, a.remote_at, a.is_sum, a.in_doubt) again
	WHERE again.outcome <> CASE a.outcome WHEN 'hold' THEN 'hold' ELSE 'same' END}), 0,
	'it ends: a second merge finds nothing new');
is($node->sql(qq{SELECT count(*) FROM ($after) a,
		mergetest.merge(a.is_set, a.row, NULL, a.row, a.row, a.policy, a.local_at, a.remote_at, a.is_sum, a.in_doubt) again
	WHERE again.outcome <> 'same'}), 0, 'and when the row was sent, both sides are at rest');
is($node->sql(q{SELECT count(*) FROM (SELECT n, m FROM triple t,
			mergetest.merge(is_set, base, base_local, local, remote, policy, local_at, remote_at, is_sum, in_doubt) m ORDER BY n) a
		JOIN (SELECT n, m FROM triple t,
			mergetest.merge(is_set, base, base_local, local, remote, policy, local_at, remote_at, is_sum, in_doubt) m ORDER BY n DESC) b
		USING (n) WHERE a.m IS DISTINCT FROM b.m}), 0, 'the order of a batch plays no part');
# nobody's word is lost without being kept
is($node->sql(qq{SELECT count(*) FROM ($after) a,
		mergetest.merge(is_set, base, base_local, local, remote, policy, local_at, remote_at, is_sum, in_doubt) m
	WHERE a.outcome = 'take' AND NOT m.conflict AND a.local IS DISTINCT FROM coalesce(a.base_local, a.base)
		AND NOT (coalesce(a.base_local, a.base) IS NULL AND mergetest.nothing(a.local))}), 0,
	'a changed value is never replaced without a conflict');
is(($node->sql_error(q{SELECT mergetest.merge(false, '1', NULL, '2', '3', 'loudest', now(), now(), false, false)}))[0], 'XX000',
	'an unknown policy is an error');


# D8
is($node->sql(q{SELECT outcome, value, conflict FROM mergetest.merge(false, '10', NULL, '13', '12', 'manual', now(), now(), true, false)}),
	'join|15|f', 'D8: +3 here and +2 there make 15 of 10, whatever the policy');
is($node->sql(q{SELECT outcome, value FROM mergetest.merge(false, '0.1', NULL, '0.3', '0.2', 'manual', now(), now(), true, false)}),
	'join|0.4', 'D8: in decimals, not in binary fractions');
is($node->sql(q{SELECT outcome, conflict FROM mergetest.merge(false, '10', NULL, '13', '15', 'notion', now(), now(), true, true)}),
	'hold|t', 'D8: what may have been counted already is not counted again');
is($node->sql(q{SELECT outcome, value FROM mergetest.merge(false, '10', NULL, '12', '12', 'notion', now(), now(), true, false)}),
	'join|14', 'D8: two additions of the same are two');
is($node->sql(q{SELECT outcome, conflict FROM mergetest.merge(false, '10', NULL, '12', '12', 'notion', now(), now(), true, true)}),
	'agree|f', 'D8: but not where the page may show what was written here');
is($node->sql(q{SELECT outcome, conflict FROM mergetest.merge(false, '10', NULL, 'null', '12', 'notion', now(), now(), true, false)}),
	'take|t', 'D8: where there is no number the policy decides');

# both sides add at random, merges and writes come at random, and one writes a merged value over the other's
$node->sql(q{CREATE FUNCTION mergetest.walk(seed integer, OUT expected numeric, OUT row_has jsonb, OUT page_has jsonb)
		LANGUAGE plpgsql AS $$
	DECLARE
		base jsonb := '10'; m record; step integer; d numeric;
	BEGIN
		expected := 10; row_has := base; page_has := base;
		FOR step IN 1 .. 40 LOOP
			d := round((random() * 20 - 10)::numeric, (random() * 3)::integer);
			IF step > 36 THEN d := 0; END IF;
			CASE floor(random() * 4)
				WHEN 0 THEN row_has := to_jsonb(row_has::numeric + d); expected := expected + d;
				WHEN 1 THEN page_has := to_jsonb(page_has::numeric + d); expected := expected + d;
				ELSE NULL;
			END CASE;
			IF random() < 0.5 OR step > 36 THEN
				m := mergetest.merge(false, base, NULL, row_has, page_has, 'newest', now(), now(), true, false);
				row_has := CASE m.outcome WHEN 'take' THEN page_has WHEN 'join' THEN m.value ELSE row_has END;
				base := page_has;
				-- the write follows before the next edit of the page, or is merged with that first
				IF random() < 0.5 OR step > 36 THEN page_has := row_has; base := row_has; END IF;
			END IF;
		END LOOP;
	END $$});
is($node->sql(q{SELECT count(*) FROM generate_series(1, 500) s, mergetest.walk(s)
	WHERE row_has::numeric <> expected OR page_has::numeric <> expected}), 0, 'D8: whatever the order, both sides end at the sum of all');

done_testing();
