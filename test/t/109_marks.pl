# 109_marks.pl
#	The mark of the epoch in a Notion database (scenario J6), in odd moments: a person formats its
#	text, a session holds the link's row, many entries stand still.
use strict;
use warnings;

use JSON::PP ();
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

# ---- many entries that stand still ----

# entries of b that no look at its mark finds anything to send among
$node->sql(q{INSERT INTO angles.queue_entries (link_id, key, seq, priority, state, enqueued_at, class, message)
	SELECT l.id, (1000 + g)::text, 0, 1, 'parked', now(), 'value', 'stands still'
	FROM angles.links l, generate_series(1, 2000) g WHERE relid = 'b'::regclass});
$node->sql('ANALYZE angles.queue_entries');
$node->kill_worker('sync', 'TERM');
$node->sql(q{SELECT pg_stat_reset_single_table_counters('angles.queue_entries'::regclass)});
my $begin = now_ms();
for my $n (1 .. 40)
{
	$node->sql("UPDATE t SET title = 'turn $n' WHERE id = 1");
	# the view of the queue would read them itself
	wait_for(sub { (pages($node, $sim, 't'))[0]{title} eq "turn $n" }, "J6: turn $n arrives") or last;
}
# what it read is reported when it ends at the latest
$node->kill_worker('sync', 'TERM');
my $read = $node->sql(q{SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_all_tables WHERE relid = 'angles.queue_entries'::regclass});
cmp_ok($read, '<', 2000 * ((now_ms() - $begin) / 200 + 5), 'J6: a link with nothing to send is not walked in each turn');
# what comes for it right after such a look is not forgotten
$node->sql("UPDATE t SET title = 'last' WHERE id = 1");
wait_for(sub { (pages($node, $sim, 't'))[0]{title} eq 'last' }, 'J6: a worker looks at the other link');
$node->sql("UPDATE b SET title = 'last' WHERE id = 1");
wait_for(sub { (pages($node, $sim, 'b'))[0]{title} eq 'last' }, 'J6: and sends for this one soon afterwards', 5);
$node->sql(q{DELETE FROM angles.queue_entries WHERE state = 'parked'});

# ---- a session holds the link's row while the mark is written ----

# a person wiped it out, and it is to be taken over
sub describe
{
	my ($table, @parts) = @_;
	my $database = $sim->call('GET', '/v1/data_sources/' . source($table))->{parent}{database_id};
	return $sim->call('PATCH', "/v1/databases/$database", { description => \@parts });
}

sub text
{
	my ($content, %annotations) = @_;
	my $link = delete $annotations{link};
	return { type => 'text', text => { content => $content, link => $link ? { url => $link } : undef },
		(%annotations ? (annotations => \%annotations) : ()) };
}

describe('t', text('Mine.'));
$sim->faults({ method => 'PATCH', path => '^/v1/databases/', action => 'delay', ms => 1500, when => 'after', nth => 1 });
$node->sql(q{UPDATE angles.links SET mark_epoch = NULL WHERE relid = 't'::regclass});
$node->sql("UPDATE t SET title = 'held' WHERE id = 1");
wait_for(sub { description('t') =~ /^Mine\..*epoch 2 of/ }, 'J6: the mark is written again');
my $session = $node->background_psql('postgres');
$session->query_safe(q{BEGIN; SELECT FROM angles.links WHERE relid = 't'::regclass FOR UPDATE});
is($node->sql(q{SELECT mark_epoch IS NULL FROM angles.links WHERE relid = 't'::regclass}), 't', 'J6: its answer is not there yet');
wait_for(sub { (pages($node, $sim, 't'))[0]{title} eq 'held' }, 'J6: rows go out though the link is locked');
is($node->sql(q{SELECT mark_epoch IS NULL FROM angles.links WHERE relid = 't'::regclass}), 't', 'J6: the epoch could not be recorded');
$session->query_safe('COMMIT');
$node->wait_sql(q{SELECT mark_epoch = 2 FROM angles.links WHERE relid = 't'::regclass}, 'J6: it is as soon as the link is free', 10);
$session->quit;
$sim->clear_faults;
drained($node);

# ---- a person formats the mark, and writes beside it ----

my ($head, $tail) = description('t') =~ /^Mine\.(.*[0-9a-f]{8}-[0-9a-f]{4}-)(.*)$/;
ok($tail, 'J6: the mark can be cut in the middle of its uuid');
describe('t', text('Read me. ', bold => JSON::PP::true), text($head), text($tail, italic => JSON::PP::true),
	text(' Ask Ann.', link => 'https://example.com/ann'));
is(scalar parts('t'), 4, 'J6: it stands in two parts of four');
$node->sql('SELECT angles.adopt()');
wait_for(sub { description('t') =~ /epoch 3 of/ }, 'J6: a mark in two parts is read and written anew');
is(() = description('t') =~ /epoch|Kept in sync/g, 2, 'J6: there is one mark');
my @parts = parts('t');
is($parts[0]{plain_text} . ($parts[0]{annotations}{bold} ? 'bold' : ''), 'Read me. bold', 'J6: what a person wrote before it stays');
is("$parts[-1]{plain_text}|$parts[-1]{href}", ' Ask Ann.|https://example.com/ann', 'J6: and what stands behind it');

# one part holds the end of a person's link, the mark, and more of the link
my ($mark) = description('t') =~ /(Kept in sync.*of [0-9a-f]{16})/;
describe('t', text("See this $mark and that", link => 'https://example.com/'), text('. End'));
$node->sql('SELECT angles.adopt()');
wait_for(sub { description('t') =~ /^See this Kept in sync .*epoch 4 of [0-9a-f]{16} and that\. End$/ }, 'J6: a mark within a link is replaced');
is(join('|', map { $_->{plain_text} } grep { $_->{href} } parts('t')), 'See this | and that', 'J6: the words of the link stay one');
$node->wait_sql("SELECT bool_and(state = 'active' AND mark_epoch = 4) FROM angles.links", 'J6: both are marked');
drained($node);

# two marks, and the sentence of another link
($mark) = description('t') =~ /(Kept in sync.*of [0-9a-f]{16})/;
(my $higher = $mark) =~ s/epoch 4 of .*/epoch 9 of ffffffffffffffff/;
my $uuid = '11111111-2222-3333-4444-555555555555';
(my $foreign = $mark) =~ s/(mark: )\S+/$1$uuid/;
describe('t', text("$mark between $foreign $higher behind"));
$node->kill_worker('sync', 'TERM');
$node->sql("UPDATE t SET title = 'fenced' WHERE id = 1");
$node->wait_sql("SELECT fence_reason = 'superseded' FROM angles.identity", 'J6: of two marks the highest counts');
$node->sql('SELECT angles.adopt()');
wait_for(sub { description('t') =~ /epoch 10 of/ }, 'J6: it is taken over');
(my $rest = description('t')) =~ s/Kept in sync[^:]*: (?!$uuid)\S+.*epoch 10 of [0-9a-f]{16}/MARK/;
is($rest, "MARK between $foreign  behind", 'J6: both marks have gone, and nothing else');

done_testing();
