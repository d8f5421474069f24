# 000_harness.pl
#	The helpers that all other tests stand on. When this fails, look here first.
# valgrind: yes
use strict;
use warnings;

use AnglesTest;
use IO::Socket::INET;
use Test::More;

my $node = new_cluster('main');

# ---- statements ----
is($node->sql('SELECT count(*) FROM pg_extension WHERE extname = $$angles$$'), 1,
	'a new cluster has the extension');
is_deeply(
	[ $node->rows("SELECT 1, NULL, '' UNION ALL SELECT 2, 'x|y', 'z' ORDER BY 1") ],
	[ [ 1, undef, '' ], [ 2, 'x|y', 'z' ] ],
	'rows() tells NULL from nothing');
$node->fails_with('SELECT 1/0', '22012', qr/division by zero/, 'fails_with() sees the SQLSTATE');
is(($node->sql_error('SELECT 1'))[0], '', 'sql_error() sees that nothing went wrong');

# ---- settings ----
$node->configure('work_mem' => '5MB', 'search_path' => q("it's", b));
is($node->sql('SHOW work_mem'), '5MB', 'configure() has changed a setting');
is($node->sql('SHOW search_path'), q("it's", b), 'configure() has quoted a value');
$node->configure('work_mem' => undef, 'search_path' => undef);
is($node->sql('SHOW work_mem'), '4MB', 'configure() has taken a setting back');

# ---- kill points ----
$node->arm_kill_point('nowhere');
is($node->sql('SHOW angles.test_kill_point'), 'nowhere', 'a kill point is set');
ok(-e $node->data_dir . '/angles_kill_once', 'a kill point is armed');
ok(!$node->disarm_kill_point, 'a kill point that nobody passes does not strike');
ok(!-e $node->data_dir . '/angles_kill_once', 'a kill point is disarmed');

# ---- waits: a wait that fails is a failing test, which is looked at here instead of being one ----
my ($failed, $value);
{
	local $ENV{ANGLES_SLOW_FACTOR} = 1;
	no warnings 'redefine';
	local *AnglesTest::fail = sub { $failed = shift; };
	local *AnglesTest::diag = sub { };
	$value = wait_for(sub { 0 }, 'the impossible', 0.1);
}
like($failed // '', qr/the impossible/, 'wait_for() fails by name');
is($value, 0, 'wait_for() gives what the question last gave');
my $asked = 0;
is(wait_for(sub { ++$asked == 3 && 'third' }, 'the third answer'), 'third', 'wait_for() asks again');
is($node->wait_sql('SELECT 7', 'an answer'), 7, 'wait_sql() gives the answer');

# ---- crash ----
my $started = $node->sql('SELECT pg_postmaster_start_time()');
$node->sql('CREATE TABLE kept (id int)');
$node->crash;
isnt($node->sql('SELECT pg_postmaster_start_time()'), $started, 'crash() brings a new server');
is($node->sql('SELECT count(*) FROM kept'), 0, 'crash() keeps what was committed');
like($node->log_from(0), qr/database system was not properly shut down/, 'crash() is no shutdown');

# ---- children ----
my $child = AnglesTest::spawn('/dev/null', 'cat');
wait_for(sub { !AnglesTest::child_alive($child) }, 'a child that had nothing to read ends');
ok(!defined AnglesTest::end_child($child), 'a child that has ended by itself is not waited for');
$child = AnglesTest::spawn('/dev/null', 'tail', '-f', '/dev/null');
ok(AnglesTest::child_alive($child), 'a child lives');
is(AnglesTest::end_child($child) & 127, 15, 'a child is ended');
ok(!kill(0, $child), 'and gone');

# ---- proxy ----
my $server = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1', LocalPort => 0)
  or die "could not listen: $!";
my $proxy = start_proxy($server->sockport);

sub open_pair
{
	my $client = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $proxy->port)
	  or die "could not connect: $!";
	my $other = $server->accept;
	return ($client, $other);
}

sub got
{
	my ($sock) = @_;
	my $n = sysread($sock, my $bytes, 100);
	return defined $n ? $n ? $bytes : 'end' : 'reset';
}

my ($client, $other) = open_pair();
syswrite($client, 'ask');
is(got($other), 'ask', 'the proxy hands a request on');
syswrite($other, 'answer');
is(got($client), 'answer', 'the proxy hands an answer back');
$proxy->mode('lose_reply');
syswrite($client, 'again');
is(got($other), 'again', 'lose_reply hands the request on');
syswrite($other, 'lost');
is(got($client), 'reset', 'lose_reply resets instead of answering');
$proxy->mode('pass');
($client, $other) = open_pair();
$proxy->mode('cut');
is(got($client), 'end', 'cut ends a connection in order');
$proxy->mode('pass');
($client, $other) = open_pair();
$proxy->mode('reset');
is(got($client), 'reset', 'reset ends a connection by force');
$proxy->stop;
ok(!IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $proxy->port),
	'a stopped proxy refuses');

done_testing();
