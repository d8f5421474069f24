# SyncTest.pm
#	What the tests of sync share: linking a table, and reading what Notion holds of it.
package SyncTest;

use strict;
use warnings;

use Exporter 'import';
use Test::More;

use AnglesTest;

our @EXPORT = qw(link_table drained compared pages writes creates live_keys text_of);

# Links a table and returns when its rows may flow.
sub link_table
{
	my ($node, $table, $args) = @_;
	$node->sql("SELECT count(*) FROM angles.link('$table'" . ($args ? ", $args" : '') . ')');
	$node->wait_sql(
		"SELECT state = 'active' FROM angles.links WHERE relid = '$table'::regclass",
		"$table is linked");
	drained($node);
}

# Returns when nothing that can move is left in the queue.
sub drained
{
	my ($node, $timeout) = @_;
	return $node->wait_sql(
		"SELECT count(*) = 0 FROM angles.queue WHERE state NOT IN ('parked', 'held', 'waiting')",
		'the queue is drained', $timeout);
}

# Returns when a full compare of the table that was asked for is through, and the queue drained.
sub compared
{
	my ($node, $table) = @_;
	$node->wait_sql(
		"SELECT state = 'active' AND NOT EXISTS (SELECT FROM angles.reconciles r WHERE r.link_id = l.id)
			AND NOT EXISTS (SELECT FROM angles.change_log c WHERE c.link_id = l.id AND c.op = 'R')
		FROM angles.links l WHERE relid = '$table'::regclass",
		"$table is compared");
	return drained($node);
}

# Returns the live pages of a table as a list of hashes, oldest first, as a person would find them in
# Notion: properties by name, decoded by text_of().
sub pages
{
	my ($node, $sim, $table) = @_;
	my $source = $node->sql(
		"SELECT data_source_id FROM angles.links WHERE relid = '$table'::regclass");
	my @pages;
	my $cursor;

	do
	{
		my $answer = $sim->call('POST', "/v1/data_sources/$source/query",
			{ sorts => [ { timestamp => 'created_time', direction => 'ascending' } ],
				($cursor ? (start_cursor => $cursor) : ()) });
		foreach my $page (@{ $answer->{results} })
		{
			my %row = (_id => $page->{id});
			$row{$_} = text_of($page->{properties}{$_}) foreach keys %{ $page->{properties} };
			push @pages, \%row;
		}
		$cursor = $answer->{has_more} ? $answer->{next_cursor} : undef;
	} while ($cursor);
	return @pages;
}

# Returns a property's value as text; a list as its parts, sorted, with commas.
sub text_of
{
	my ($property) = @_;
	my $value = $property->{ $property->{type} };

	return undef unless defined $value;
	return join('', map { $_->{plain_text} } @$value) if $property->{type} =~ /title|rich_text/;
	return $value->{name} if $property->{type} =~ /^(select|status)$/;
	return join(',', sort map { $_->{name} // $_->{id} } @$value) if ref $value eq 'ARRAY';
	return $value->{start} if $property->{type} eq 'date';
	return "$value";
}

# Returns the keys of the live pages, sorted; a key twice stands there twice.
sub live_keys
{
	my ($node, $sim, $table, $key) = @_;
	return join(' ', sort { $a cmp $b } map { $_->{ $key // 'id' } } pages($node, $sim, $table));
}

# Returns the writes to pages in the ledger after the first $since entries of it.
sub writes
{
	my ($sim, $since) = @_;
	return grep { $_->{path} =~ m{^/v1/pages} && ($_->{by} // 'api') eq 'api' } $sim->ledger($since);
}

# Returns those of writes() that make a page.
sub creates
{
	return grep { $_->{method} eq 'POST' } writes(@_);
}

1;
