# idle.pl
#	What angles does while nothing happens: statements and processor time of all its processes over
#	two minutes, with two linked tables whose rows were sent some time ago. It asks Notion for changes.
use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use Test::More;

use AnglesTest;
use BenchTest;
use SyncTest;

use constant SECONDS => 120;

my $sim = start_simulator();
my $node = bench_node('idle', $sim, shared_preload_libraries => 'pg_cron,pg_stat_statements,angles',
	'pg_stat_statements.track' => 'all', 'pg_stat_statements.track_utility' => 'on',
	'pg_stat_statements.save' => 'off', autovacuum => 'off');

$node->sql('CREATE EXTENSION pg_stat_statements');
$node->sql("CREATE TABLE $_ (id int PRIMARY KEY, title text)") foreach qw(t u);
link_table($node, $_) foreach qw(t u);
$node->sql("INSERT INTO $_ SELECT g, 'row ' || g FROM generate_series(1, 100) g") foreach qw(t u);
drained($node);
# what was written in the last minutes is read again with each question
$sim->call('POST', '/_sim/clock', { advance => 600_000 });
forget($sim);
wait_for(sub { 4 <= grep { $_->{path} =~ /query/ } arrivals($sim) }, 'two questions for each table', 30);

my @kinds = qw(launcher bridge sync);
my %pid = map { $_ => $node->wait_worker($_) } @kinds;
forget($sim);
$node->sql('SELECT pg_stat_statements_reset()');
my %before = map { $_ => cpu_ms($pid{$_}) } @kinds;
sleep_s(SECONDS);
my %used = map { $_ => cpu_ms($pid{$_}) - $before{$_} } @kinds;

my @statements = $node->rows("SELECT calls, left(regexp_replace(query, '\\s+', ' ', 'g'), 150)
	FROM pg_stat_statements WHERE query !~ 'pg_stat_statements' ORDER BY calls DESC, query");
my ($calls, $most) = (0, 0);
foreach my $row (@statements)
{
	note("$row->[0] x $row->[1]");
	$calls += $row->[0];
	$most = $row->[0] if $row->[0] > $most;
}
note(join(', ', map { sprintf '%s %.2f ms', $_, $used{$_} } @kinds) . ' of processor time in ' . SECONDS . ' s');
my $ms = 0;
$ms += $_ foreach values %used;

# in two minutes the sweep comes twice, or three times when it stands at both ends
figure('idle, statements', sprintf('%d in %d s, none more than %d times', $calls, SECONDS, $most),
	'the 60 s sweep alone', $most <= 3);
figure('idle, processor', sprintf('%.4f %% of a core', 100 * $ms / 1000 / SECONDS), '< 0.1 %',
	$ms / 1000 / SECONDS < 0.001);
my @sent = arrivals($sim);
is(scalar(grep { $_->{path} !~ /query/ } @sent), 0, 'nothing but the questions for changes was sent');
note(scalar(@sent) . ' questions');
say_load('load after');
done_testing();
