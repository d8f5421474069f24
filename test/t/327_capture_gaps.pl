# 327_capture_gaps.pl
#	Scenarios A6, A9, A13: changes that no trigger of a single row reports, or not in the order in which
#	they happened: TRUNCATE among other changes, partitions that come and go.
use strict;
use warnings;

use Test::More;

use AnglesTest;
use SyncTest;

my $sim = start_simulator();
my $node = new_cluster('main', sim => $sim);

# Returns the live pages of a table as "id:n ...", sorted.
sub held
{
	my ($table) = @_;
	return join(' ', sort map { "$_->{id}:$_->{n}" } pages($node, $sim, $table));
}

# A9: what happened to a key before TRUNCATE says nothing about what happened to it after
{
	$node->sql(q{
		CREATE TABLE emptied (id int PRIMARY KEY, title text, n int);
		INSERT INTO emptied SELECT g, 'row ' || g, g FROM generate_series(1, 3) g});
	link_table($node, 'emptied');
	$node->sql(q{BEGIN; UPDATE emptied SET n = 10 WHERE id = 1; TRUNCATE emptied;
		INSERT INTO emptied VALUES (1, 'back', 20); COMMIT});
	drained($node);
	is(held('emptied'), '1:20 2:2 3:3', 'A9: a row that is made again after TRUNCATE is sent');
	is($node->sql('SELECT pages FROM angles.held_deletes'), 2,
		'A9: and its page is not among those that wait for approval');
}

done_testing();
