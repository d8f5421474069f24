# LintSql.pm
#	Rules about sql/. The catalog has the last word (test/pgtap/contract.sql); these speak earlier and
#	name the line.
package LintSql;

use strict;
use warnings;

sub rules
{
	return (
		'sql-search-path' => \&search_path,
		'sql-public' => \&public,
		'sql-comment' => \&comment,
		'sql-replace' => \&replace,
		'sql-schema' => \&schema);
}

my $files = qr{^sql/\d\d_\w+\.sql$};

# Returns a script with comments and the bodies of functions blanked, characters at their places.
sub statements
{
	my ($tree, $file) = @_;
	return $tree->{sql}{$file} //= do {
		my $text = $tree->text($file);
		$text =~ s{
			( --[^\n]* | /\*.*?\*/ )
			| ( (\$\w*\$).*?\3 )
			| ( '(?:''|[^'])*' )
		}{ defined $4 ? "'" . ('x' x (length($4) - 2)) . "'" : ($1 // $2) =~ s/[^\n]/ /gr }gsex;
		$text;
	};
}

# Calls the sub for each statement: file, line, text without bodies, text as it stands.
sub for_each
{
	my ($tree, $pattern, $sub) = @_;
	for my $file ($tree->names($files))
	{
		my $text = statements($tree, $file);
		while ($text =~ /([^;]+);/g)
		{
			my ($statement, $start, $end) = ($1, $-[1], $+[1]);
			my ($lead) = $statement =~ /^(\s*)/;
			next unless substr($statement, length $lead) =~ $pattern;
			$sub->($file, $tree->line_at($file, $start + length $lead),
				substr($statement, length $lead),
				substr($tree->text($file), $start + length $lead, $end - $start));
		}
	}
}

my $function = qr/^CREATE\s+(?:OR\s+REPLACE\s+)?(?:FUNCTION|PROCEDURE)\s+([\w."]+)/i;

sub search_path
{
	my ($tree, $found) = @_;
	for_each($tree, $function, sub {
		my ($file, $line, $statement) = @_;
		my ($name) = $statement =~ $function;
		# triggers in C look nothing up by name and are called for each row: SET would cost there;
		# and PostgreSQL lets no procedure with SET commit
		return if $statement =~ /LANGUAGE\s+'?c\b/i
		  && $statement =~ /RETURNS\s+(?:pg_catalog\.)?trigger|^CREATE\s+PROCEDURE/i;
		$found->($file, $line, "$name has no SET search_path = pg_catalog, pg_temp")
		  unless $statement =~ /SET\s+search_path\s*(?:=|TO)\s*pg_catalog\s*,\s*pg_temp/i;
	});
}

# PostgreSQL gives EXECUTE on new functions to everybody: each is taken back, one by one or at the end
# by ALL FUNCTIONS IN SCHEMA angles.
sub public
{
	my ($tree, $found) = @_;
	my $revoked = '';

	for_each($tree, qr/^GRANT\b/i, sub {
		my ($file, $line, $statement) = @_;
		$found->($file, $line, 'nothing is granted to PUBLIC') if $statement =~ /\bTO\b[^;]*\bPUBLIC\b/i;
	});
	for_each($tree, qr/^REVOKE\b.*\bFROM\b.*\bPUBLIC\b/is, sub { $revoked .= " $_[2]"; });
	return if $revoked =~ /ALL\s+(?:FUNCTIONS|ROUTINES)\s+IN\s+SCHEMA\s+angles/i;
	for_each($tree, $function, sub {
		my ($file, $line, $statement) = @_;
		my ($name) = $statement =~ $function;
		$found->($file, $line, "EXECUTE on $name is not revoked from PUBLIC")
		  unless $revoked =~ /\Q$name\E\b/;
	});
}

sub comment
{
	my ($tree, $found) = @_;
	my $comments = '';

	for_each($tree, qr/^COMMENT\s+ON\b/i, sub { $comments .= " $_[2]\n"; });
	for_each($tree,
		qr/^CREATE\s+(?:OR\s+REPLACE\s+)?(?:TABLE|VIEW|FUNCTION|PROCEDURE|TYPE|DOMAIN|SEQUENCE|MATERIALIZED\s+VIEW|AGGREGATE)\b/i,
		sub {
			my ($file, $line, $statement) = @_;
			my ($kind, $name) =
			  $statement =~ /^CREATE\s+(?:OR\s+REPLACE\s+)?(MATERIALIZED\s+VIEW|\w+)\s+([\w."]+)/i;
			$found->($file, $line, "there is no COMMENT ON " . uc($kind) . " $name")
			  unless $comments =~ /COMMENT\s+ON\s+$kind\s+\Q$name\E(?![\w.])/i;
		});
}

# An install script takes over nothing that somebody else put there.
sub replace
{
	my ($tree, $found) = @_;
	for_each($tree, qr/^CREATE\s+(?:OR\s+REPLACE\b|.*?\bIF\s+NOT\s+EXISTS\b)/is, sub {
		my ($file, $line, $statement) = @_;
		$found->($file, $line, 'takes over what may belong to somebody else')
		  if $statement =~ /^CREATE\s+(?:OR\s+REPLACE\b|[\w\s]*?\bIF\s+NOT\s+EXISTS\b)/i;
	});
}

# Every object is named with its schema.
sub schema
{
	my ($tree, $found) = @_;
	for_each($tree, qr/^CREATE\s/i, sub {
		my ($file, $line, $statement) = @_;
		my ($kind, $name) = $statement =~
		  /^CREATE\s+(?:OR\s+REPLACE\s+)?(TABLE|VIEW|FUNCTION|PROCEDURE|TYPE|DOMAIN|SEQUENCE)\s+([\w."]+)/i
		  or return;
		$found->($file, $line, "$kind $name is not named as angles.$name") unless $name =~ /^angles\./;
	});
}

1;
