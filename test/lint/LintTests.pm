# LintTests.pm
#	Rules about tests: scenarios, kill points, sleeps. And the proof that each rule can fail.
package LintTests;

use strict;
use warnings;

use File::Basename;
use File::Path 'make_path';
use File::Temp;

# How many scenarios each letter has; the letters' subjects are in test/README.md.
my %scenarios = (A => 13, B => 11, C => 12, D => 8, E => 8, F => 9, G => 3, H => 6, I => 4, J => 8, K => 4, L => 49);

my $tests = qr{^test/(?:t|soak|sql|specs|pgtap|notion|bench)/.*\.(?:pl|sql|spec|mjs)$};

sub rules
{
	return (
		'test-sleep' => \&sleeps,
		'test-scenarios' => \&scenario_table,
		'test-kill-points' => \&kill_points,
		'test-outputs' => \&outputs);
}

# Tests wait for conditions. A sleep proves nothing on a slow machine and costs time on a fast one.
sub sleeps
{
	my ($tree, $found) = @_;
	for my $file ($tree->names(qr{^test/(?:t|soak)/.*\.pl$|^test/notion/.*\.test\.mjs$}))
	{
		my $number = 0;
		for my $line ($tree->lines($file))
		{
			$number++;
			next if $line =~ m{^\s*(?:#|//)};
			$found->($file, $number, 'waits for a time, not for a condition')
			  if $line =~ /\b(?:u?sleep|setTimeout)\s*\(?\s*[\d\$(]|select\s*\(\s*undef/;
		}
	}
}

# Returns {id => {file => 1}}: ids stand before a colon, at the start of a test's name or of a comment:
# "A1: ...", "A1, B3: ...".
sub scenarios_of
{
	my ($tree, $found) = @_;
	my %where;
	for my $file ($tree->names($tests))
	{
		my $number = 0;
		for my $line ($tree->lines($file))
		{
			$number++;
			while ($line =~ /(?:^|["'`#*\/(-])\s*((?:[A-L]\d{1,2}(?:,\s*|\s+and\s+))*[A-L]\d{1,2}):(?=\s)/g)
			{
				for my $id ($1 =~ /([A-L]\d{1,2})/g)
				{
					my ($letter, $n) = $id =~ /(.)(\d+)/;
					if ($n < 1 || $n > $scenarios{$letter}) { $found->($file, $number, "there is no scenario $id") if $found; }
					else { $where{$id}{$file} = 1; }
				}
			}
		}
	}
	return \%where;
}

# Returns the table of test/README.md as the tests say it.
sub table
{
	my ($tree, $found) = @_;
	my $where = scenarios_of($tree, $found);
	my (%by_files, @missing);
	my $table = "| scenarios | held by |\n|---|---|\n";
	my $held = 0;

	for my $letter (sort keys %scenarios)
	{
		for my $n (1 .. $scenarios{$letter})
		{
			my $files = $where->{"$letter$n"};
			if (!$files) { push @missing, "$letter$n"; next; }
			$held++;
			push @{ $by_files{ join(', ', map { s{^test/}{}r } sort keys %$files) } }, "$letter$n";
		}
	}
	my %order = map { $by_files{$_}[0] => $_ } keys %by_files;
	for my $first (sort { ord($a) <=> ord($b) || substr($a, 1) <=> substr($b, 1) } keys %order)
	{
		$table .= "| @{ $by_files{ $order{$first} } } | $order{$first} |\n";
	}
	my ($points, $armed) = points($tree);
	my $runs = grep { $armed->{$_} } keys %$points;
	return $table . "\n$held of " . eval { my $n = 0; $n += $_ for values %scenarios; $n }
	  . " scenarios have a test. Not yet: " . (@missing ? "@missing" : 'none') . ".\n"
	  . "Kill points in the source: " . keys(%$points) . ", each struck by a test: $runs.\n";
}

my ($begin, $end) = ("<!-- table: test/lint/scenarios --write -->\n", "<!-- end of table -->\n");

# The table in test/README.md is the one that the tests give.
sub scenario_table
{
	my ($tree, $found) = @_;
	my $readme = $tree->text('test/README.md');
	my $table = table($tree, $found);

	return unless defined $readme;
	my ($now) = $readme =~ /\Q$begin\E(.*?)\Q$end\E/s;
	$found->('test/README.md', 0, 'the table of scenarios is old; run test/lint/scenarios --write')
	  unless defined $now && $now eq $table;
}

# Writes the table into test/README.md. Returns true when that changed it.
sub write_table
{
	my ($tree) = @_;
	my $path = $tree->top . '/test/README.md';
	my $readme = $tree->text('test/README.md');
	my $table = table($tree);
	my $new = $readme =~ s/(\Q$begin\E).*?(\Q$end\E)/$1$table$2/sr;

	return 0 if $new eq $readme;
	open(my $fh, '>:raw', $path) or die "could not write $path: $!\n";
	print $fh $new;
	close $fh or die "could not write $path: $!\n";
	return 1;
}

# Returns {kill point => place} of the source and {word => 1} of what tests quote.
sub points
{
	my ($tree) = @_;
	my (%points, %quoted);

	for my $file ($tree->names(qr{^src/.*\.c$}))
	{
		my $number = 0;
		for my $line ($tree->lines($file))
		{
			$number++;
			$points{$1} = [ $file, $number ] if $line =~ /\bANGLES_KILL_POINT\("([^"]+)"\)/;
		}
	}
	for my $file ($tree->names(qr{^test/(?:t|soak)/.*\.pl$}))
	{
		my $text = $tree->text($file);
		$quoted{$_} = 1 for $text =~ /['"]([\w.:-]+)['"]/g;
		$quoted{$_} = 1 for map { split } $text =~ /\bqw\s*[\(\[\/{]([^)\]\/}]*)/g;
	}
	return (\%points, \%quoted);
}

# Every kill point is struck by a test.
sub kill_points
{
	my ($tree, $found) = @_;
	my ($points, $quoted) = points($tree);
	for my $name (sort keys %$points)
	{
		$found->(@{ $points->{$name} }, "no test strikes kill point \"$name\"") unless $quoted->{$name};
	}
}

# Every input of pg_regress has its output, and no output is left over.
sub outputs
{
	my ($tree, $found) = @_;
	my %wanted;
	for my $file ($tree->names(qr{^test/(?:sql/.*\.sql|specs/.*\.spec)$}))
	{
		my ($name) = $file =~ m{([^/]+)\.\w+$};
		$found->($file, 0, "another test has the same name, and so the same output") if $wanted{$name}++;
		$found->($file, 0, "there is no expected/$name.out") unless defined $tree->text("expected/$name.out");
	}
	for my $file ($tree->names(qr{^expected/}))
	{
		my ($name) = $file =~ m{^expected/(.+)\.out$};
		$found->($file, 0, 'belongs to no test') unless defined $name && $wanted{$name};
	}
}

# Runs each rule on its samples: trees "bad..." in which it must find something, trees "good..." in
# which it must not. Returns how many did and did not.
sub samples
{
	my ($file, $rules) = @_;
	my ($good, $bad) = (0, 0);
	my $samples = read_samples($file);

	for my $name (sort keys %$rules)
	{
		my $trees = $samples->{$name} // {};
		for my $kind (qw(bad good))
		{
			next if grep { /^$kind/ } keys %$trees;
			print "FAILED samples: rule $name has no $kind sample\n";
			$bad++;
		}
		for my $sample (sort keys %$trees)
		{
			my $top = write_sample($trees->{$sample});
			my $tree = Source->read("$top");
			my @found;
			$rules->{$name}->($tree, sub {
				my ($file, $line, $words) = @_;
				push @found, "$file:$line: $words" unless $line && $tree->lets_off($file, $line, $name);
			});
			my $refused = $sample =~ /^bad/;
			if (!@found == !$refused) { $good++; next; }
			$bad++;
			print "FAILED samples: $name ", $refused ? 'finds nothing in ' : 'finds something in ',
			  "$sample\n", map { "  $_\n" } @found;
		}
	}
	return ($good, $bad);
}

# Returns {rule => {tree => {path => [text, flags]}}}.
sub read_samples
{
	my ($file) = @_;
	my (%samples, $tree, $text);

	open(my $fh, '<:raw', $file) or die "could not read $file: $!\n";
	while (my $line = <$fh>)
	{
		if ($line =~ /^== (\S+) (\S+)$/) { $tree = $samples{$1}{$2} = {}; undef $text; }
		elsif ($tree && $line =~ /^@@ (\S+)(.*)$/) { $text = $tree->{$1} = [ '', $2 ]; }
		elsif ($text) { $text->[0] .= $line =~ s/^\\\{(\d+)\}(.*\n)/$2 x $1/er; }
	}
	return \%samples;
}

# Writes the files of a sample and returns their folder, which goes with the object.
sub write_sample
{
	my ($files) = @_;
	my $top = File::Temp->newdir;
	for my $path (keys %$files)
	{
		my ($text, $flags) = @{ $files->{$path} };
		make_path(dirname("$top/$path"));
		chomp $text if $flags =~ /cut/;
		open(my $fh, '>:raw', "$top/$path") or die "could not write $top/$path: $!\n";
		print $fh $text;
		close $fh;
		chmod($flags =~ /x/ ? 0755 : 0644, "$top/$path");
	}
	return $top;
}

1;
