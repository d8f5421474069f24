# 320_partitions_and_names.pl
#	Scenarios A6, G1: tables of every shape: partitions, keys of all kinds, names that need quotes,
#	generated columns, domains, arrays.
use strict;
use warnings;

use Test::More;

use AnglesTest;
use SyncTest;

my $sim = start_simulator();
my $node = new_cluster('main', sim => $sim);

# Runs a statement and returns the writes that it led to.
sub since
{
	my ($sql) = @_;
	my $before = $sim->ledger;
	$node->sql($sql);
	drained($node);
	return writes($sim, $before);
}

# A6
{
	$node->sql(q{
		CREATE TABLE part (id int, region text, title text, n int, PRIMARY KEY (id, region))
			PARTITION BY LIST (region);
		CREATE TABLE part_a PARTITION OF part FOR VALUES IN ('a');
		-- other attribute numbers than the parent's
		CREATE TABLE part_b (junk int, n int, title text, region text NOT NULL, id int NOT NULL);
		ALTER TABLE part_b DROP COLUMN junk;
		ALTER TABLE part ATTACH PARTITION part_b FOR VALUES IN ('b');
		CREATE TABLE byid (id int PRIMARY KEY, title text, n int) PARTITION BY RANGE (id);
		CREATE TABLE byid_1 PARTITION OF byid FOR VALUES FROM (0) TO (1000);
		CREATE TABLE byid_2 PARTITION OF byid FOR VALUES FROM (1000) TO (2000);
		INSERT INTO part SELECT g, 'a', 'row ' || g, g FROM generate_series(1, 120) g;
		INSERT INTO byid VALUES (1, 'one', 1)});
	link_table($node, 'part');
	link_table($node, 'byid');
	is(scalar(pages($node, $sim, 'part')), 120, 'A6: the rows of a partitioned table are pages');

	my ($page) = grep { $_->{title} eq 'row 5' } pages($node, $sim, 'part');
	my @w = since("UPDATE part SET region = 'b', n = 55 WHERE id = 5");
	is(scalar @w, 1, 'A6: a move to another partition is one request');
	is($w[0]{method}, 'PATCH', 'A6: a PATCH');
	my ($moved) = grep { $_->{title} eq 'row 5' } pages($node, $sim, 'part');
	is($moved->{_id}, $page->{_id}, 'A6: the page is kept');
	is("$moved->{region} $moved->{n}", 'b 55', 'A6: with the new values');

	@w = since("UPDATE part SET n = 56 WHERE id = 5");
	is(scalar @w, 1, 'A6: a change in a partition with other attribute numbers');
	is((values %{ $w[0]{body}{properties} })[0]{number}, 56, 'A6: carries the right column');
	@w = since("UPDATE part SET region = 'b' WHERE region = 'a'");
	is(scalar(grep { $_->{method} ne 'PATCH' || $_->{body}{in_trash} } @w), 0,
		'A6: a move of many rows trashes and makes nothing');
	is(scalar @w, 119, 'A6: one PATCH a row');
	is($node->sql("SELECT count(*) FROM angles.alerts WHERE closed_at IS NULL"), 0,
		'A6: and is no mass delete');

	@w = since("UPDATE byid SET id = 1500 WHERE id = 1");
	is(join(' ', map { $_->{method} } @w), 'PATCH', 'A6: a key that changes its partition keeps the page');
	is(live_keys($node, $sim, 'byid'), '1500', 'A6: under its new key');

	$node->sql(q{CREATE TABLE byid_3 PARTITION OF byid FOR VALUES FROM (2000) TO (3000)});
	@w = since("INSERT INTO byid VALUES (2500, 'new partition', 1)");
	is(scalar @w, 1, 'A6: a partition added later is captured');
}

# keys
{
	$node->sql(q{
		CREATE DOMAIN code AS text CHECK (VALUE ~ '^[a-z]+$');
		CREATE TYPE colour AS ENUM ('red', 'green');
		CREATE TABLE k_uuid (id uuid PRIMARY KEY, title text);
		CREATE TABLE k_text (id text PRIMARY KEY, title text);
		CREATE TABLE k_time (id timestamptz PRIMARY KEY, title text);
		CREATE TABLE k_domain (id code PRIMARY KEY, title text);
		CREATE TABLE k_enum (id colour PRIMARY KEY, title text);
		CREATE TABLE k_date (id date PRIMARY KEY, title text);
		CREATE TABLE k_bytea (id bytea PRIMARY KEY, title text);
		CREATE TABLE k_char (id char(5) PRIMARY KEY, title text);
		CREATE TABLE k_mixed (a int, b timestamptz, c text, v text, title text, PRIMARY KEY (c, b, a))});
	my %values = (
		k_uuid => q{'0f8fad5b-d9cb-469f-a165-70867728950e'},
		k_text => q{E'it''s "q" \\\\ \n [1] {}'},
		k_time => q{'2024-03-01 10:00:00.123456+02'},
		k_domain => q{'abc'}, k_enum => q{'green'}, k_date => q{'2024-02-29'},
		k_bytea => q{'\xdeadbeef'}, k_char => q{'ab'});
	foreach my $table (sort keys %values)
	{
		link_table($node, $table);
		# settings of the session have no part in what a key is called
		my @w = since("SET DateStyle = 'German, DMY'; SET TimeZone = 'Asia/Tokyo'; "
			. "SET bytea_output = escape; INSERT INTO $table VALUES ($values{$table}, 'first')");
		is(scalar @w, 1, "A11: $table: a row with such a key is sent");
		@w = since("SET TimeZone = 'America/Lima'; UPDATE $table SET title = 'second'");
		is(join(' ', map { $_->{method} } @w), 'PATCH', "A11: $table: and found again");
		is((pages($node, $sim, $table))[0]{title}, 'second', "A11: $table: changed");
		@w = since("SELECT angles.reconcile('$table')");
		compared($node, $table);
		is(scalar(pages($node, $sim, $table)), 1, "A11: $table: a full compare makes no second page");
		@w = since("DELETE FROM $table");
		is(scalar(pages($node, $sim, $table)), 0, "A11: $table: deleted");
	}
	link_table($node, 'k_mixed');
	since("INSERT INTO k_mixed VALUES (1, '2024-01-01 00:00+00', 'x, \"y\"', 'v', 't')");
	my @w = since("SET TimeZone = 'Asia/Tokyo'; UPDATE k_mixed SET v = 'w'");
	is(join(' ', map { $_->{method} } @w), 'PATCH', 'A11: a composite key of mixed types is found again');
	is((pages($node, $sim, 'k_mixed'))[0]{v}, 'w', 'A11: and its value has changed');
	@w = since("UPDATE k_mixed SET a = 2, c = 'z'");
	is(join(' ', map { $_->{method} } @w), 'PATCH', 'A7: a composite key that changes keeps the page');
	is((pages($node, $sim, 'k_mixed'))[0]{'angles key'}, '["z", "2024-01-01 00:00:00+00", "2"]',
		'A7: which carries the new key');
}

# names
{
	$node->sql(q{
		CREATE SCHEMA "My Schema";
		CREATE TABLE "My Schema"."Order's ""Items""" ("Id" int PRIMARY KEY, "The Title" text,
			"select" int, "a""b" text, "It's" boolean, "key" text, "ord" int)});
	my $table = q{"My Schema"."Order's ""Items"""};
	(my $quoted = $table) =~ s/'/''/g;
	link_table($node, $quoted, q{filter => '"select" IS DISTINCT FROM 0 AND key IS NOT NULL AND ord < 10'});
	my @w = since(qq{INSERT INTO $table VALUES (1, 'T', 5, 'q', true, 'k', 1), (2, 'U', 0, 'q', true, 'k', 1)});
	is(scalar @w, 1, 'A11: quoted names, and a filter on columns named like angles\' own words');
	@w = since(qq{UPDATE $table SET "select" = 6, "a""b" = 'r'});
	my ($page) = grep { $_->{Id} eq '1' } pages($node, $sim, $quoted);
	is("$page->{'The Title'} $page->{select} $page->{'a\"b'} $page->{q(It's)}", 'T 6 r true',
		'A11: all columns of quoted names arrive');
	is(live_keys($node, $sim, $quoted, 'Id'), '1 2', 'A11: a row that comes into scope is sent');
}

# generated columns, domains, arrays
{
	$node->sql(q{
		CREATE DOMAIN label AS varchar(30);
		CREATE TABLE kinds (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, title label,
			n int, twice int GENERATED ALWAYS AS (n * 2) STORED,
			tags text[], numbers int[], shade colour, at date)});
	link_table($node, 'kinds');
	since(q{INSERT INTO kinds (title, n, tags, numbers, shade, at)
		VALUES ('t', 4, '{b,a}', '{1,2}', 'red', '2024-02-29')});
	my ($page) = pages($node, $sim, 'kinds');
	is("$page->{title} $page->{n} $page->{twice} $page->{tags} $page->{shade} $page->{at}",
		't 4 8 a,b red 2024-02-29', 'A11: generated column, domain, array, enum, date');
	my @w = since('UPDATE kinds SET n = 5');
	($page) = pages($node, $sim, 'kinds');
	is($page->{twice}, 10, 'A11: a generated column follows');
	@w = since(q{UPDATE kinds SET tags = '{c}'});
	is(scalar @w, 1, 'A11: an array changes');
	is((pages($node, $sim, 'kinds'))[0]{tags}, 'c', 'A11: in Notion as well');
}

done_testing();
