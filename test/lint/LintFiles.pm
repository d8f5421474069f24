# LintFiles.pm
#	Rules about every file of the tree.
package LintFiles;

use strict;
use warnings;

# What stands at the top, exactly; names with a leading dot aside.
my %top = map { $_ => 1 }
  qw(Makefile angles.control sql src expected test docker README.md LICENSE CHANGELOG.md);

# Written by people, line by line; the rest (lock files, expected outputs, data) is made by programs.
my $written = qr{^(?!expected/|.*package-lock\.json$).*(?:\.(?:c|h|sql|spec|pl|pm|sh|mjs|js|css|html|md|yml|yaml|control|supp)|(?:^|/)[A-Za-z.]+)$};

sub rules
{
	return (
		'file-size' => \&size,
		'file-place' => \&place,
		'file-white-space' => \&white_space,
		'file-machine-path' => \&machine_path,
		'file-unfinished' => \&unfinished,
		'file-secret' => \&secret,
		'file-syntax' => \&syntax);
}

# 800 lines are the aim, 900 the end.
sub size
{
	my ($tree, $found) = @_;
	for my $file ($tree->names(qr{^(?!expected/).*\.(c|h|sql|spec|pl|pm|sh|mjs|js)$}))
	{
		my $lines = ($tree->text($file) =~ tr/\n//);
		$found->($file, 0, "$lines lines") if $lines > 900;
		print "warning: $file has $lines lines\n" if $lines > 800 && $lines <= 900;
	}
}

sub place
{
	my ($tree, $found) = @_;
	my %seen;
	for my $file ($tree->names(qr/./))
	{
		my ($first) = split(m{/}, $file);
		next if $seen{$first}++ || $top{$first} || $first =~ /^\./;
		# what the tests of PGXS leave behind is not part of the tree
		next if $first =~ /^regression\./;
		$found->($first, 0, 'does not belong at the top');
	}
	for my $file ($tree->names(qr{^src/[^/]+\.[ch]$}))
	{
		$found->($file, 0, 'only module.c stands outside the rooms') if $file ne 'src/module.c';
	}
}

sub white_space
{
	my ($tree, $found) = @_;
	for my $file ($tree->names($written))
	{
		my $number = 0;
		for my $line ($tree->lines($file))
		{
			$number++;
			$found->($file, $number, 'white space at the end') if $line =~ /[ \t\r]$/;
		}
		$found->($file, 0, 'does not end with a line end') if $tree->text($file) =~ /[^\n]\z/;
	}
}

sub machine_path
{
	my ($tree, $found) = @_;
	for_lines($tree, $found, $written,
		qr{(?<![\w.])/(?:work|root|home/\w+)/}, 'a path of somebody\'s machine');
	for_lines($tree, $found, qr{^(?:src|sql)/}, qr{["'\s]/tmp/}, 'a path below /tmp');
}

sub unfinished
{
	my ($tree, $found) = @_;
	for_lines($tree, $found, $written, qr/\b(?:TODO|FIXME|XXX|HACK)\b/, 'unfinished'); # lint: file-unfinished: the rule itself
}

sub for_lines
{
	my ($tree, $found, $files, $pattern, $words) = @_;
	for my $file ($tree->names($files))
	{
		next if $file eq 'test/lint/LintFiles.pm';
		my $number = 0;
		for my $line ($tree->lines($file))
		{
			$number++;
			$found->($file, $number, "$words: " . $line =~ s/^\s+//r) if $line =~ $pattern;
		}
	}
}

# Tokens as their makers write them, long enough to be real. Tests use words such as ntn_test.
sub secret
{
	my ($tree, $found) = @_;
	for_lines($tree, $found, qr/./,
		qr/\b(?:ntn_\w{40,}|secret_\w{40,}|gh[pousr]_\w{36,}|github_pat_\w{40,}|AKIA[0-9A-Z]{16})\b|-----BEGIN [A-Z ]*PRIVATE KEY-----/,
		'looks like a secret');
}

# Scripts that no test starts must at least be parsed.
sub syntax
{
	my ($tree, $found) = @_;
	for my $file ($tree->names(qr{^(?:test|docker|\.ci)/}))
	{
		my ($first) = $tree->lines($file);
		my $path = $tree->top . "/$file";
		my @command =
		  $file =~ /\.m?js$/ ? ('node', '--check', $path)
		  : $file =~ /\.sh$/ || $first =~ m{^#!.*\bbash} ? ('bash', '-n', $path)
		  : $first =~ m{^#!/bin/sh} ? ('sh', '-n', $path)
		  : ();
		next unless @command;
		open(my $pipe, '-|', 'sh', '-c', '"$@" 2>&1', 'sh', @command) or die "could not run: $!";
		my $out = do { local $/; <$pipe> };
		$found->($file, 0, "does not parse:\n$out") unless close $pipe;
	}
	for my $file ($tree->names(qr{^(?:test/bin/|\.ci/|test/lint/lint$|test/demo/.*\.sh$|test/notion/probe\.sh$)}))
	{
		$found->($file, 0, 'is a program but may not be executed') unless -x $tree->top . "/$file";
	}
}

1;
