# 512_backup_chunks.pl
#	Scenarios 22 and 23: where the text of a table is cut depends on its rows and on nothing else.
use strict;
use warnings;

use Digest::SHA 'sha256';
use Test::More;

use AnglesTest;

my $node = new_cluster('main');
$node->sql(q{CREATE FUNCTION cuts(int, text[], int[]) RETURNS text LANGUAGE c AS 'angles', 'angles_chunk_test';
	CREATE FUNCTION edits(bigint, int, boolean) RETURNS bigint LANGUAGE c AS 'angles', 'angles_chunk_edits_test'});

# the rule once more, as src/backup/README.md has it
sub cuts
{
	my ($target, $keys, $lengths) = @_;
	my ($min, $max, $spread) = (int($target / 4), 4 * $target, int($target * $target / 1000) * 716);
	my ($size, $last, @cuts) = (0, 0);

	for my $i (0 .. $#$keys)
	{
		my ($cut_word, $bucket_word) = unpack('Q>Q>', sha256($keys->[$i]));
		my $cut = $size == 0 || $size + $lengths->[$i] > $max;
		if (!$cut && $size > $min)
		{
			my $end = $size - $min;
			my $begin = $end > $last ? $end - $last : 0;
			my $mass = $end**2 - $begin**2;
			$cut = $mass >= $spread || ($cut_word >> 42) < int(($mass << 22) / $spread);
		}
		push @cuts, $i . ($bucket_word < int(18446744073709551615 / 48) ? 'b' : '') if $cut;
		$size = $cut ? $lengths->[$i] : $size + $lengths->[$i];
		$last = $lengths->[$i];
	}
	return @cuts;
}

srand(1);
for my $target (1024, 16384, 65536)
{
	my @keys = 1 .. 4000;
	my @lengths = map { rand() < 0.01 ? 1 + int(rand(300000)) : 10 + int(rand(500)) } @keys;
	my $here = join(' ', cuts($target, \@keys, \@lengths));
	my $there = $node->sql("SELECT trim(cuts($target, '{" . join(',', @keys) . "}', '{" . join(',', @lengths) . "}'))");
	is($there, $here, "L22: target $target: cut as the rule says");
	my @at = map { s/b//r } split / /, $there;
	my @sizes = map { my $i = $_; my $sum = 0; $sum += $lengths[$_] for $at[$i] .. ($at[ $i + 1 ] // @keys) - 1; [ $sum, ($at[ $i + 1 ] // @keys) - $at[$i] ] } 0 .. $#at;
	is(scalar(grep { $_->[0] > 4 * $target && $_->[1] > 1 } @sizes), 0, "L22: target $target: only a row of its own is longer than the most");
}

# rows of one length: chunks lie around the target
{
	my @keys = map { "k$_" } 1 .. 100000;
	my $cuts = $node->sql("SELECT cuts(16384, array_agg('k' || i ORDER BY i), array_agg(100 ORDER BY i)) FROM generate_series(1, 100000) i");
	my @at = map { s/b//r } split / /, $cuts;
	my @sizes = map { 100 * ($at[$_] - $at[ $_ - 1 ]) } 1 .. $#at;
	my $mean = 100 * $at[-1] / @sizes;
	cmp_ok(abs($mean - 16384), '<', 1200, "L22: the average is the target ($mean)");
	is(scalar(grep { $_ < 4096 || $_ > 65536 } @sizes), 0, 'L22: none is smaller than the least or larger than the most');
	cmp_ok(scalar(grep { $_ > 2 * 16384 } @sizes) / @sizes, '<', 0.05, 'L22: few are twice as large');
	my $buckets = () = $cuts =~ /b/g;
	cmp_ok(abs($buckets - @sizes / 48), '<', 20, "L22: about one in 48 begins a bucket ($buckets of " . @sizes . ')');
}

# edits: growing and shrinking rows, other keys, chunks deleted as a whole, nothing left, equal rows
for my $seed (1 .. 10)
{
	cmp_ok($node->sql("SELECT edits($seed, 700, false)"), '>', 10000, "L22, L23: keys, seed $seed: what is cut again is what all of it gives");
	cmp_ok($node->sql("SELECT edits($seed, 300, true)"), '>', 300, "L22, L23: equal rows, seed $seed: the same");
}

done_testing();
