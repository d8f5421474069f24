-- Data of the demo: :countries and :parts are JSON of Debian's iso-codes.
CREATE TABLE countries (
	code		text PRIMARY KEY,
	name		text NOT NULL,
	official	text,
	flag		text,
	number		integer NOT NULL
);
CREATE TABLE subdivisions (
	code		text PRIMARY KEY,
	name		text NOT NULL,
	kind		text NOT NULL,
	country		text NOT NULL REFERENCES countries,
	part_of		text REFERENCES subdivisions DEFERRABLE INITIALLY DEFERRED
);

INSERT INTO countries
SELECT c ->> 'alpha_2', c ->> 'name', c ->> 'official_name', c ->> 'flag', (c ->> 'numeric')::int
FROM jsonb_array_elements((:'countries')::jsonb -> '3166-1') c;

BEGIN;
INSERT INTO subdivisions
SELECT s ->> 'code', s ->> 'name', s ->> 'type', split_part(s ->> 'code', '-', 1),
	CASE WHEN s ->> 'parent' ~ '-' THEN s ->> 'parent'
		ELSE split_part(s ->> 'code', '-', 1) || '-' || (s ->> 'parent') END
FROM jsonb_array_elements((:'parts')::jsonb) s;
COMMIT;

INSERT INTO decisions (title, status, reason, tags) VALUES
	('Use PostgreSQL for everything', 'open', 'One system to know well', '{architecture}'),
	('Meet on Tuesdays only', 'decided', 'Fewer interruptions', '{team,calendar}');
INSERT INTO memories (title, content, kind, importance) VALUES
	('The cat prefers the red chair', 'Do not sit there.', 'fact', 3),
	('Parking is free after six', NULL, 'place', 1);
INSERT INTO activities (title, decision, minutes, done) VALUES ('Compare the alternatives', 1, 90, true);
ANALYZE;
