# LintC.pm
#	Rules about src/. A rule gets the tree and a sub that takes findings: file, line, words.
package LintC;

use strict;
use warnings;

# Rooms in the order of dependency: a room includes itself and what stands left of it.
my @rooms = qw(core net worker notion sync git backup restore health schedule optimize report);
my %rank = map { $rooms[$_] => $_ } 0 .. $#rooms;

# What nobody calls, and what one file alone calls.
my @never = (
	[ qr/curl_easy_perform/, 'blocks without serving interrupts; use net/' ],
	[ qr/pg_usleep|usleep|nanosleep|sleep/, 'sleeps without serving interrupts; use angles_wait()' ],
	[ qr/git_remote_\w+/, 'lets libgit2 open sockets, which have no time limit' ],
	[ qr/popen|system|fork|vfork|pthread_create/, 'a server process starts no process and no thread' ],
	[ qr/strcpy|strcat|sprintf|vsprintf|gets|strtok/, 'has no bound' ],
	[ qr/rand|srand|random/, 'is not seeded for each process; use angles_clock_jitter()' ],
	[ qr/exit|_exit|abort/, 'use proc_exit()' ],
);
my @only = (
	[ qr/WaitLatch|WaitLatchOrSocket|WaitEventSetWait|poll|ppoll|select|epoll_p?wait/,
		qr{^src/core/wait\.c$}, 'waits; only core/wait.c does, use angles_wait()' ],
	[ qr/epoll_create1?|epoll_ctl|curl_multi_\w+|curl_easy_\w+|curl_global_\w+|socket|connect/,
		qr{^src/net/}, 'belongs to room net' ],
	[ qr/GetCurrentTimestamp|gettimeofday|clock_gettime|time/,
		qr{^src/core/clock\.c$}, 'reads a clock; use core/clock.h, which tests can move' ],
);

sub rules
{
	return (
		'c-function-size' => \&function_size,
		'c-forbidden' => \&forbidden,
		'c-errcode' => \&errcode,
		'c-message-style' => \&message_style,
		'c-direction' => \&direction,
		'c-line-length' => \&line_length,
		'c-header-comment' => \&header_comment,
		'c-file-comment' => \&file_comment,
		'c-names' => \&exported_names,
		'c-sqlstates' => \&sqlstates);
}

# At most 100 lines from the brace of a function to its end; 80 is the aim.
sub function_size
{
	my ($tree, $found) = @_;
	for my $file ($tree->names(qr{^src/.*\.c$}))
	{
		my $code = $tree->code($file);
		while ($code =~ /^(\w+)\s*\([^;{}]*\)\s*\n\{(.*?)^\}/gms)
		{
			my ($name, $length) = ($1, ($2 =~ tr/\n//));
			$found->($file, $tree->line_at($file, $-[1]), "$name() has $length lines")
			  if $length > 100;
		}
	}
}

sub forbidden
{
	my ($tree, $found) = @_;
	for my $file ($tree->names(qr{^src/.*\.[ch]$}))
	{
		my $code = $tree->code($file);
		for my $rule (@never, @only)
		{
			my ($names, @rest) = @$rule;
			next if @rest == 2 && $file =~ $rest[0];
			while ($code =~ /(?<![\w.>])($names)\s*\(/g)
			{
				# a declaration, or a member function of the same name, is no call
				$found->($file, $tree->line_at($file, $-[1]), "$1() $rest[-1]");
			}
		}
	}
}

# Every error carries its code.
sub errcode
{
	my ($tree, $found) = @_;
	for_each_report($tree, sub {
		my ($file, $line, $call) = @_;
		return unless $call =~ /^ereport(?:_domain)?\s*\(\s*(ERROR|FATAL|PANIC)\b/;
		$found->($file, $line, "ereport($1) without errcode") unless $call =~ /\berrcode\w*\s*\(/;
	});
}

sub for_each_report
{
	my ($tree, $sub) = @_;
	for my $file ($tree->names(qr{^src/.*\.[ch]$}))
	{
		my $code = $tree->code($file);
		while ($code =~ /\bereport\s*\(/g)
		{
			$sub->($file, $tree->line_at($file, $-[0]), $tree->call_at($file, $-[0]));
		}
	}
}

# Messages begin in lower case without a full stop; details and hints are sentences.
sub message_style
{
	my ($tree, $found) = @_;
	for_each_report($tree, sub {
		my ($file, $line, $call) = @_;
		while ($call =~ /\b(errmsg|errdetail|errhint)\w*\s*\(\s*((?:"(?:\\.|[^"\\])*"(?:\s|\w)*)+)/g)
		{
			my ($kind, $literal) = ($1, $2);
			$literal = join('', $literal =~ /"((?:\\.|[^"\\])*)"/g);
			if ($kind eq 'errmsg')
			{
				$found->($file, $line, "message begins with a capital: \"$literal\"")
				  if $literal =~ /^[A-Z][a-z]/ && $literal !~ /^(?:Notion|PostgreSQL|Git)/;
				$found->($file, $line, "message ends with a full stop: \"$literal\"")
				  if $literal =~ /\.$/ && $literal !~ /\.\.\.$/;
			}
			# what ends in a placeholder may be ended by what is put there
			elsif ($literal !~ /^(?:[A-Z"%(]|[a-z_]+\.[a-z_]+ )/ || $literal !~ /[.?!)]"?$|%\w$|%\w\\?"$/)
			{
				$found->($file, $line, "$kind is no sentence: \"$literal\"");
			}
		}
	});
}

sub direction
{
	my ($tree, $found) = @_;
	for my $file ($tree->names(qr{^src/.*\.[ch]$}))
	{
		my ($room) = $file =~ m{^src/(\w+)/};
		my $number = 0;
		for my $line ($tree->lines($file))
		{
			$number++;
			next unless $line =~ /^\s*#\s*include\s+"(\w+)\/\w+\.h"/ && defined $rank{$1};
			# module.c puts the rooms together and knows them all
			next unless defined $room && $room ne 'bin';
			$found->($file, $number, "room $room is none of @rooms"), last
			  unless defined $rank{$room};
			$found->($file, $number, "room $room must not know room $1")
			  if $rank{$1} > $rank{$room};
		}
	}
}

sub line_length
{
	my ($tree, $found) = @_;
	for my $file ($tree->names(qr{^src/.*\.[ch]$}))
	{
		my $number = 0;
		for my $line ($tree->lines($file))
		{
			$number++;
			my $column = 0;
			for my $char (split //, $line)
			{
				$column += $char eq "\t" ? 4 - $column % 4 : 1;
				# the further bytes of a UTF-8 character take no column
				$column-- if ord($char) >= 0x80 && ord($char) < 0xc0;
			}
			$found->($file, $number, "$column columns") if $column > 100;
		}
	}
}

# What a header exports is said there: a comment above it, above the group of lines it stands in, or
# behind it.
sub header_comment
{
	my ($tree, $found) = @_;
	for my $file ($tree->names(qr{^src/.*\.h$}))
	{
		my @lines = $tree->lines($file);
		my $covered = 0;
		for my $i (0 .. $#lines)
		{
			my $line = $lines[$i];
			if ($line =~ /^\s*$/) { $covered = 0; }
			elsif ($line =~ /\*\/\s*$/ && $line !~ /^extern/) { $covered = 1; }
			elsif ($line =~ /^extern\b.*\(/ && !$covered)
			{
				# behind it: on any line of the declaration
				my $j = $i;
				$j++ while $j < $#lines && $lines[$j] !~ /;/;
				next if grep { m{/\*.*\*/} } @lines[ $i .. $j ];
				my ($name) = $line =~ /(\w+)\s*\(/;
				$found->($file, $i + 1, "$name() has no comment");
			}
		}
	}
}

# A file begins by saying what it is for.
sub file_comment
{
	my ($tree, $found) = @_;
	for my $file ($tree->names(qr{^src/.*\.[ch]$}))
	{
		my ($base) = $file =~ m{([^/]+)$};
		$found->($file, 1, "does not begin with a comment that names it and says what it is for")
		  unless $tree->text($file) =~ m{\A/\*[-\s]*\n \* \Q$base\E\n(?: \*\s+\S.*\n)};
	}
}

# Functions and variables seen by other files begin with angles_.
sub exported_names
{
	my ($tree, $found) = @_;
	for my $file ($tree->names(qr{^src/.*\.c$}))
	{
		my $code = $tree->code($file);
		while ($code =~ /^([a-z_][\w\t *]*)\n(\w+)\s*\([^;{}]*\)\s*\n\{/gmi)
		{
			my ($type, $name) = ($1, $2);
			my $line = $tree->line_at($file, $-[2]);
			next if $type =~ /\bstatic\b/ || $name =~ /^(angles_|_PG_init$)/;
			$found->($file, $line, "$name() is exported without the prefix angles_")
			  unless $file =~ m{^src/bin/} && $name eq 'main';
		}
	}
}

# The troubleshooting table of README.md has every SQLSTATE. Holds from when that table exists.
sub sqlstates
{
	my ($tree, $found) = @_;
	my $readme = $tree->text('README.md') // '';
	my $number = 0;

	return unless $readme =~ /\bNG\d{3}\b/;
	my %known;
	for my $line ($tree->lines('src/core/errors.h'))
	{
		$number++;
		next unless $line =~ /define\s+(\w+)\s+MAKE_SQLSTATE\(([^)]*)\)/;
		my ($name, $state) = ($1, join('', $2 =~ /'(.)'/g));
		$known{$state} = 1;
		$found->('src/core/errors.h', $number, "$state ($name) is not in README.md")
		  unless $readme =~ /\b$state\b/;
	}
	$number = 0;
	for my $line ($tree->lines('README.md'))
	{
		$number++;
		$found->('README.md', $number, "there is no SQLSTATE $_")
		  for grep { !$known{$_} } $line =~ /\b(NG\d{3})\b/g;
	}
}

1;
