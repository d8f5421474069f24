# Source.pm
#	The files of the tree as the rules see them: text, lines, and C without comments and strings.
package Source;

use strict;
use warnings;

use File::Find;

# Returns the tree below a folder. Built and fetched things, and the samples of what is wrong,
# are not part of it.
sub read
{
	my ($class, $top) = @_;
	my %text;

	find({
		no_chdir => 1,
		preprocess => sub {
			grep { !/^(\.git|\.check|\.demo|\.deps|node_modules|results|output_iso|tmp_check\w*)$/ } @_;
		},
		wanted => sub {
			return unless -f && !-l;
			my $name = substr($_, length($top) + 1);
			return if $name eq 'test/lint/samples.txt' || $name =~ /\.(o|bc|so|png|gcda|gcno|tmp)$|^sql\/angles--/;
			open(my $fh, '<:raw', $_) or die "could not read $_: $!\n";
			local $/;
			$text{$name} = <$fh> // '';
		}
	}, $top);
	return bless { top => $top, text => \%text }, $class;
}

# Returns the names that match a pattern, sorted.
sub names
{
	my ($self, $pattern) = @_;
	return sort grep { $_ =~ $pattern } keys %{ $self->{text} };
}

sub top { return $_[0]{top}; }
sub text { return $_[0]{text}{ $_[1] }; }

# Returns the lines of a file, without their ends.
sub lines
{
	my ($self, $name) = @_;
	return @{ $self->{lines}{$name} //= [ split(/\n/, $self->{text}{$name}, -1) ] };
}

# Returns the text of a C file with comments blanked and the insides of literals replaced by "x";
# every character stays at its place.
sub code
{
	my ($self, $name) = @_;
	return $self->{code}{$name} //= do {
		my $text = $self->{text}{$name};
		$text =~ s{
			( /\*.*?\*/ | //[^\n]* )				# a comment
			| ( "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])+' )	# a literal
		}{ defined $1 ? $1 =~ s/[^\n]/ /gr : _blank_literal($2) }gsex;
		$text;
	};
}

sub _blank_literal
{
	my ($literal) = @_;
	my $quote = substr($literal, 0, 1);
	return $quote . 'x' x (length($literal) - 2) . $quote;
}

# Returns the line of an offset, counted from 1.
sub line_at
{
	my ($self, $name, $offset) = @_;
	return 1 + (substr($self->{text}{$name}, 0, $offset) =~ tr/\n//);
}

# Returns true when the line, or the one before, lets this rule off and says why.
sub lets_off
{
	my ($self, $name, $line, $rule) = @_;
	my @lines = $self->lines($name);

	return grep { defined && /lint: \Q$rule\E: \w.{5,}/ } $lines[ $line - 1 ],
	  $line > 1 ? $lines[ $line - 2 ] : undef;
}

# Returns the text of a call from its name on to the closing parenthesis, taken from "from", found in "code".
sub call_at
{
	my ($self, $name, $offset) = @_;
	my $code = $self->code($name);
	my $depth = 0;

	pos($code) = $offset;
	while ($code =~ /([()])/g)
	{
		$depth += $1 eq '(' ? 1 : -1;
		return substr($self->{text}{$name}, $offset, pos($code) - $offset) if $depth == 0;
	}
	return substr($self->{text}{$name}, $offset, 200);
}

1;
