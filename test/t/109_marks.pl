# 109_marks.pl
#	The mark of the epoch in a Notion database (scenario J6), in odd moments: a person formats its
#	text, a session holds the link's row, many entries stand still.
use strict;
use warnings;

use Test::More;

use AnglesTest;
use SyncTest;

my $sim = start_simulator();
# whatever comes later than at once is not a sweep's work
my $node = new_cluster('main', sim => $sim,
	conf => { 'angles.sweep_interval' => '1h', 'angles.retry_cap' => '300ms', 'angles.retry_initial' => '100ms' });

sub source
{
	my ($table) = @_;
	return $node->sql("SELECT data_source_id FROM angles.links WHERE relid = '$table'::regclass");
}

# Returns the parts of the description.
sub parts
{
	my ($table) = @_;
	return @{ $sim->call('GET', '/v1/data_sources/' . source($table))->{description} };
}

sub description
{
	return join('', map { $_->{plain_text} } parts(@_));
}

sub epoch
{
	return $node->sql('SELECT epoch FROM angles.identity');
}

$node->sql("CREATE TABLE t (id int PRIMARY KEY, title text); CREATE TABLE b (id int PRIMARY KEY, title text);
	INSERT INTO t VALUES (1, 'one'); INSERT INTO b VALUES (1, 'one')");
link_table($node, $_) foreach qw(t b);

# ---- adopt() where nothing was wrong ----

like(description('t'), qr/epoch 1 of/, 'J6: the mark is there');
$node->sql('SELECT angles.adopt()');
wait_for(sub { description('t') =~ /epoch 2 of/ && description('b') =~ /epoch 2 of/ },
	'J6: after adopt() a worker that knew the mark writes it anew, before the next sweep');
$node->wait_sql('SELECT bool_and(mark_epoch = 2) FROM angles.links', 'J6: and notes that');

# ---- unlinked, and linked again ----

$node->sql(q{SELECT angles.unlink('t')});
link_table($node, 't');
$node->wait_sql(q{SELECT mark_epoch = 2 FROM angles.links WHERE relid = 't'::regclass}, 'J6: a table that is linked again is marked again');

done_testing();
