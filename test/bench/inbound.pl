# inbound.pl
#	From an edit in Notion to the committed row: with the default interval between two questions, and,
#	with a short one, from the arrival of the question that shows it. How many requests a pass without
#	changes takes.
use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use Test::More;
use Time::HiRes ();

use AnglesTest;
use BenchTest;
use SyncTest;

use constant EDITS => 40;
use constant QUICK => 300;

my $sim = start_simulator();
my $node = bench_node('inbound', $sim);
$node->sql('CREATE TABLE t (id int PRIMARY KEY, title text, n int)');
$node->sql('CREATE TABLE seen (n int, at timestamptz)');
$node->sql(q{CREATE FUNCTION note_update() RETURNS trigger LANGUAGE plpgsql AS
	'BEGIN INSERT INTO seen VALUES (NEW.n, clock_timestamp()); RETURN NULL; END'});
$node->sql('CREATE CONSTRAINT TRIGGER audit AFTER UPDATE ON t DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW EXECUTE FUNCTION note_update()');
$node->sql("INSERT INTO t SELECT g, 'row ' || g, 0 FROM generate_series(1, 100) g");
link_table($node, 't');
my %page = map { @$_ } $node->rows('SELECT key, page_id FROM angles.pages');
$sim->call('POST', '/_sim/clock', { advance => 600_000 });

# Edits a page at a time; returns the microseconds of each edit by its number.
sub edits
{
	my ($first, $n, $pause) = @_;
	my %at;
	foreach my $i ($first .. $first + $n - 1)
	{
		$at{$i} = Time::HiRes::time() * 1e6;
		$sim->call('POST', '/_sim/edit', { op => 'set', page_id => $page{ $i % 100 + 1 }, properties => { n => $i } });
		$pause->($i);
	}
	return %at;
}

# When the rows were written, in microseconds, by number.
sub written
{
	return map { ($_->[0] => $_->[1]) } $node->rows('SELECT n, extract(epoch FROM at) * 1e6 FROM seen');
}

# what no edit changes: one question a pass
{
	wait_for(sub { 1 <= grep { $_->{path} =~ /query/ } arrivals($sim) }, 'a question', 30);
	forget($sim);
	sleep_s(30);
	my @sent = arrivals($sim);
	figure('a pass without changes', sprintf('%d requests in 30 s, all of them questions: %s', scalar @sent,
		(grep { $_->{path} !~ /query/ } @sent) ? 'no' : 'yes'), '1 request a source and pass (6 or 7)',
		@sent <= 7 && !grep { $_->{path} !~ /query/ } @sent);
}

{
	my %at = edits(1000, EDITS, sub { sleep_s(1.7 + 1.3 * rand) });
	$node->wait_sql('SELECT count(DISTINCT n) = ' . EDITS . ' FROM seen', 'all have arrived', 60);
	my %row = written();
	my @ms = map { ($row{$_} - $at{$_}) / 1000 } keys %at;
	my $p95 = quantile(0.95, @ms);
	figure('edit to committed row, interval 5 s', sprintf('p50 %.0f ms, p95 %.0f ms', quantile(0.5, @ms), $p95),
		'p95 <= 5,100 ms', $p95 <= 5100);
}

{
	$node->configure('angles.poll_interval' => '100ms');
	$node->sql('TRUNCATE seen');
	forget($sim);
	my %at = edits(2000, QUICK, sub { my $i = $_[0]; $node->wait_sql("SELECT count(*) > 0 FROM seen WHERE n = $i", 'it has arrived', 20) });
	my %row = written();
	# when the edit took effect: a question that came a moment before does not show it
	%at = ();
	foreach my $edit (grep { $_->{by} eq 'human' } $sim->ledger)
	{
		my $n = $edit->{body}{properties}{n};
		$n = $n->{number} if ref $n;
		$at{$n} = $edit->{t_us} if defined $n && exists $row{$n};
	}
	is(scalar(keys %at), QUICK, 'the ledger has every edit');
	my @questions = sort { $a <=> $b } map { $_->{t_us} } grep { $_->{path} =~ /query/ } arrivals($sim);
	my @ms;
	foreach my $i (keys %at)
	{
		my ($shown) = grep { $_ >= $at{$i} } @questions;
		push @ms, ($row{$i} - $shown) / 1000 if defined $shown;
	}
	my $p99 = quantile(0.99, @ms);
	figure('question to committed row', sprintf('p50 %.1f ms, p99 %.1f ms', quantile(0.5, @ms), $p99),
		'p99 <= 50 ms', $p99 <= 50);
}
say_load('load after');
done_testing();
