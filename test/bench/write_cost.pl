# write_cost.pl
#	What a link costs the user who writes: the same statements on a linked table and on one that is
#	not, in turns (A B B A), on a narrow table (an integer key and two small columns: little work
#	beside which the link's would not show) and on the starter table "decisions".
#
#	Single rows are written with everything running at Notion's smaller limit. For 100,000 rows at
#	once the link is paused, and the next statement waits until the worker has taken the last one's
#	rows: what is timed is the user's transaction.
use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use Test::More;

use AnglesTest;
use BenchTest;
use SyncTest;

use constant SINGLE => 1000;
# Single rows are written in short turns, because the time of a flush drifts by more than the bar.
use constant TURNS => 5;
use constant MANY => 100000;

my $client = program('client', 'pq', 'curl');
my $sim = start_simulator(args => [ '--keep', 1000 ]);
my $node = bench_node('cost', $sim, 'angles.notion_rate_limit' => 180);

# linked and unlinked tables of each kind, and how a row of number N is made
my %kind = (
	narrow => {
		tables => { linked => 'narrow', unlinked => 'narrow_plain' },
		insert => "INSERT INTO {table} SELECT g, 'a row', g FROM generate_series({n}, {n} + {more}) g",
		update => 'UPDATE {table} SET n = n + 1 WHERE id BETWEEN {n} AND {n} + {more}',
	},
	decisions => {
		tables => { linked => 'decisions', unlinked => 'decisions_plain' },
		insert => q(INSERT INTO {table} (id, title, reason, tags) SELECT g, 'Decision number ' || g,
			'It seemed right when all things were considered', '{team,calendar}'
			FROM generate_series({n}, {n} + {more}) g) =~ s/\s+/ /gr,
		update => q(UPDATE {table} SET reason = reason || '.' WHERE id BETWEEN {n} AND {n} + {more}),
	});
my $next = 1;

$node->sql('CREATE TABLE narrow (id int PRIMARY KEY, title text, n int)');
$node->sql("SELECT angles.create_tables('public')");
foreach my $name (sort keys %kind)
{
	$node->sql("CREATE TABLE ${name}_plain (LIKE $name INCLUDING ALL)");
	link_table($node, $name);
}
my $session = start_times($client, $node);

# Waits until the worker has taken every change out of the log.
sub taken
{
	$node->wait_sql('SELECT count(*) = 0 FROM angles.change_log', 'the log is empty', 120);
}

# Times a statement of a kind in turns; count: how often in a turn, more: rows in one besides the first,
# turns: how often A B B A in a round. Updates take rows from $from on, inserts new ones. The worker is
# held meanwhile when $hold is set. Returns medians of both and of the rounds' ratios.
sub compare
{
	my ($name, $what, $count, $more, $turns, $from, $prepare, $hold) = @_;
	my (%took, @ratio);
	foreach my $round (1 .. RUNS)
	{
		my %sum = (linked => 0, unlinked => 0);
		foreach my $side ((qw(linked unlinked unlinked linked)) x $turns)
		{
			my $table = $kind{$name}{tables}{$side};
			my $first = $from // $next;
			$prepare->();
			$next += MANY unless defined $from;
			my $sync = $hold ? $node->wait_worker('sync') : 0;
			kill('STOP', $sync) if $hold;
			my ($median, $mean) = time_sql($session, $count, $first,
				$kind{$name}{$what} =~ s/\{table\}/$table/gr =~ s/\{more\}/$more/gr);
			kill('CONT', $sync) if $hold;
			push @{ $took{$side} }, $median;
			$sum{$side} += $median;
		}
		push @ratio, $sum{linked} / $sum{unlinked};
	}
	note("$name, $what, rounds: " . join(' ', map { sprintf '%.2f', $_ } @ratio));
	return (median(@{ $took{linked} }), median(@{ $took{unlinked} }), median(@ratio));
}

foreach my $commit (qw(on off))
{
	time_sql($session, 1, 1, "SET synchronous_commit = $commit");
	foreach my $name (sort keys %kind)
	{
		foreach my $what (qw(insert update))
		{
			# rows to update, the same in both tables
			my $from;
			if ($what eq 'update')
			{
				$from = $next;
				$next += MANY;
				time_sql($session, SINGLE, $from, $kind{$name}{insert} =~ s/\{table\}/$_/gr =~ s/\{more\}/0/gr)
				  foreach values %{ $kind{$name}{tables} };
			}
			my ($linked, $unlinked, $ratio) = compare($name, $what, SINGLE / TURNS, 0, TURNS, $from, \&taken);
			figure("write cost, one row, $name, $what, synchronous_commit $commit",
				sprintf('%.0f us against %.0f us: %+.0f us, %.2fx', $linked, $unlinked, $linked - $unlinked, $ratio),
				'<= 20 us or <= 1.15x', $linked - $unlinked <= 20 || $ratio <= 1.15);
			($linked, $unlinked, $ratio) = compare($name, $what, SINGLE / TURNS, 0, TURNS, $from, \&taken, 1);
			note(sprintf('  of that the capture alone, while the worker is held: %.0f us against %.0f us: %+.0f us, %.2fx',
				$linked, $unlinked, $linked - $unlinked, $ratio));
		}
	}
}
time_sql($session, 1, 1, 'SET synchronous_commit = on');

foreach my $name (sort keys %kind)
{
	my @tables = values %{ $kind{$name}{tables} };
	my $calm = sub {
		taken();
		$node->sql("VACUUM ANALYZE $_") foreach @tables;
		$node->sql('CHECKPOINT');
	};
	$node->sql("SELECT angles.pause('$name')");
	$node->sql("ALTER TABLE $_ SET (autovacuum_enabled = off)") foreach @tables;
	foreach my $case ([ 'insert', 1.3 ], [ 'update', 1.6 ])
	{
		my ($what, $bar) = @$case;
		my $from;
		if ($what eq 'update')
		{
			$from = $next;
			$next += MANY;
			time_sql($session, 1, $from, $kind{$name}{insert} =~ s/\{table\}/$_/gr =~ s/\{more\}/@{[MANY - 1]}/gr)
			  foreach @tables;
		}
		my ($linked, $unlinked, $ratio) = compare($name, $what, 1, MANY - 1, 1, $from, $calm);
		figure("write cost, 100,000 rows, $name, $what",
			sprintf('%.0f ms against %.0f ms: %.2fx', $linked / 1000, $unlinked / 1000, $ratio), "<= ${bar}x",
			$ratio <= $bar);
	}
}
say_load('load after');
done_testing();
