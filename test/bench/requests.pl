# requests.pl
#	How many requests a changed row costs: 10,000 rows created, then each updated 10 times while the
#	link is paused.
use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use Test::More;

use AnglesTest;
use BenchTest;
use SyncTest;

use constant ROWS => 10000;

my $sim = start_simulator();
my $node = bench_node('requests', $sim);

$node->sql('CREATE TABLE t (id int PRIMARY KEY, title text, n int)');
link_table($node, 't');

# Runs SQL, waits until all of it has been sent, and tests the number of requests.
sub count
{
	my ($what, $sql) = @_;
	forget($sim);
	$node->sql($sql);
	ok(drained($node, 600), "$what: drained");
	my @all = arrivals($sim);
	my $writes = grep { $_->{write} } @all;
	my $reads = @all - $writes;
	figure("requests per changed row, $what",
		sprintf('%.4f writes a row, %.2f reads per 100 rows', $writes / ROWS, 100 * $reads / ROWS),
		'1.00 writes a row, <= 1 read per 100 rows', $writes == ROWS && $reads <= ROWS / 100);
}

count('creates', 'INSERT INTO t SELECT g, \'row \' || g, g FROM generate_series(1, ' . ROWS . ') g');
count('10 updates each before the drain', "SELECT angles.pause('t');\n"
	. join('', map { "UPDATE t SET n = n + $_;\n" } 1 .. 10) . "SELECT angles.resume('t')");
is($node->sql('SELECT count(*) FROM angles.parked'), 0, 'nothing is parked');
is(scalar(grep { $_->{n} != $_->{id} + 55 } pages($node, $sim, 't')), 0, 'Notion holds the last values');
done_testing();
