# 335_large_deletes.pl
#	What deletes or renames many rows at once: nothing goes to the trash unasked, and every page stays
#	with its row.
use strict;
use warnings;

use Test::More;

use AnglesTest;
use SyncTest;

my $sim = start_simulator();
my $node = new_cluster('main', sim => $sim,
	conf => { 'angles.notion_verify_window' => '1s', 'angles.retry_cap' => '500ms', 'angles.retry_initial' => '100ms' });

sub trashes { return grep { $_->{method} eq 'PATCH' && ($_->{body}{in_trash} // 0) } $sim->ledger($_[0]); }

# A9: creates that are under way, or in doubt, when the table is truncated
foreach my $case ([ 'under way', { action => 'delay', ms => 1500, when => 'after' } ], [ 'in doubt', { action => 'reset_after' } ])
{
	my ($what, $fault) = @$case;
	my $table = $what eq 'in doubt' ? 'doubt' : 'way';

	$node->sql("CREATE TABLE $table (id int PRIMARY KEY, title text)");
	link_table($node, $table);
	my $before = $sim->ledger;
	my $seen = $sim->requests;
	# long enough to be seen, all six at once, on a busy machine
	$node->configure('angles.notion_verify_window' => '4s');
	$sim->faults({ method => 'POST', path => '^/v1/pages', count => 6, %$fault });
	$node->sql("INSERT INTO $table SELECT g, 'x' FROM generate_series(1, 6) g");
	wait_for(sub { 6 == grep { $_->{path} =~ m{^/v1/pages} } $sim->requests($seen) }, "six creates are $what", 30)
	  if $what eq 'in doubt';
	$node->wait_sql("SELECT count(*) = 6 FROM angles.queue_entries WHERE state IN ('claimed', 'verifying')", "$what: claimed");
	$node->sql("TRUNCATE $table");
	$node->wait_sql("SELECT count(*) = 6 FROM angles.queue_entries WHERE state = 'held' AND deleted", "A9: creates $what are held", 30);
	is(scalar(trashes($before)), 0, "A9: creates $what: nothing is put in the trash unasked");
	is($node->sql("SELECT count(*) FROM angles.held_deletes WHERE \"table\" = '$table'::regclass"), 6, 'A9: people can see them');
	$node->sql("SELECT angles.approve('$table')");
	drained($node);
	is(scalar(pages($node, $sim, $table)), 0, "A9: creates $what: approved, they go");
	$sim->clear_faults;
	$node->configure('angles.notion_verify_window' => '1s');
}

# E7: the same for rows that are just being written when many are deleted
{
	$node->sql("CREATE TABLE many (id int PRIMARY KEY, title text); INSERT INTO many SELECT g, 'x' FROM generate_series(1, 150) g");
	link_table($node, 'many');
	my $before = $sim->ledger;
	$sim->faults({ method => 'PATCH', path => '^/v1/pages', count => 6, action => 'delay', ms => 1000, when => 'after' });
	$node->sql("UPDATE many SET title = 'y' WHERE id <= 6");
	$node->wait_sql("SELECT count(*) = 6 FROM angles.queue_entries WHERE state = 'claimed'", 'six are under way');
	$node->sql('DELETE FROM many');
	$node->wait_sql("SELECT count(*) = 150 FROM angles.queue_entries WHERE state = 'held'", 'E7: all of them are held', 30);
	is(scalar(trashes($before)), 0, 'E7: none is put in the trash unasked');
	$sim->clear_faults;
}

# a row that was tried before, and is not found: absence is believed at the second look
{
	$node->sql(q{CREATE TABLE gone (id int PRIMARY KEY, title text); INSERT INTO gone VALUES (1, 'x')});
	link_table($node, 'gone');
	$node->sql(q{CREATE TABLE looks (class text);
		CREATE FUNCTION note_look() RETURNS trigger LANGUAGE plpgsql AS
			'BEGIN INSERT INTO public.looks VALUES (NEW.class); RETURN NULL; END';
		CREATE TRIGGER looks AFTER UPDATE ON angles.queue_entries FOR EACH ROW WHEN (NEW.class = 'absent' AND OLD.class IS DISTINCT FROM 'absent')
			EXECUTE FUNCTION note_look()});
	$sim->faults({ method => 'PATCH', path => '^/v1/pages', count => 1, action => '503' });
	$node->configure('angles.retry_initial' => '2s', 'angles.retry_cap' => '2s');
	$node->sql("UPDATE gone SET title = 'y'");
	$node->wait_sql("SELECT count(*) = 1 FROM angles.queue_entries WHERE state = 'retry' AND attempts > 0", 'it was tried');
	$node->sql('SET angles.sync = off; DELETE FROM gone');
	drained($node);
	is($node->sql('SELECT count(*) FROM looks'), 1, 'a row that was tried before is looked for twice as well');
	is(scalar(pages($node, $sim, 'gone')), 0, 'before its page goes');
	$node->sql('DROP TRIGGER looks ON angles.queue_entries');
	$node->configure('angles.retry_initial' => '100ms', 'angles.retry_cap' => '500ms');
}

# A7: all keys shift under a deferred key, in more than one part
{
	my $rows = 24000;
	$node->sql("CREATE TABLE shift (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, title text);
		INSERT INTO shift SELECT g, 'row ' || g FROM generate_series(1, $rows) g");
	link_table($node, 'shift');
	drained($node, 180);
	my $pages = q{SELECT md5(string_agg(page_id::text, ' ' ORDER BY key::int)) FROM angles.pages p
		JOIN angles.links l ON l.id = p.link_id WHERE l.relid = 'shift'::regclass};
	my $before = $node->sql($pages);
	my $ledger = $sim->ledger;
	$node->sql('UPDATE shift SET id = id + 1');
	drained($node, 180);
	is($node->sql($pages), $before, "A7: $rows keys shift: every page stays with its row");
	is(scalar(trashes($ledger)), 0, 'A7: no page goes to the trash');
	is(scalar(creates($sim, $ledger)), 0, 'A7: and none is made');
	is($node->sql("SELECT count(*) FROM angles.pages WHERE key LIKE E'\\001%'"), 0, 'A7: no page is left aside');
}

done_testing();
