# 340_check_notion.pl
#	angles.check_notion(): in plain words what the token is and what it may see.
use strict;
use warnings;

use Test::More;

use AnglesTest;
use SyncTest;

my $sim = start_simulator();
my $node = new_cluster('main', sim => $sim);

sub items
{
	return join(' ', map { "$_->[0]=$_->[1]" }
		$node->rows('SELECT split_part(item, $$ $$, 1), state FROM angles.check_notion() ORDER BY 1'));
}

is(items(), 'parent=ok token=ok', 'H4: a good token and a shared parent page');

$node->sql('CREATE TABLE t (id int PRIMARY KEY, title text)');
link_table($node, 't');
is(items(), 'data=ok parent=ok token=ok', 'H4: and the data source of each link');

$node->configure('angles.notion_parent' => '99999999-9999-4999-8999-999999999999');
is(items(), 'data=ok parent=critical token=ok', 'H4: a parent page that is not shared');
like($node->sql(q{SELECT hint FROM angles.check_notion() WHERE item LIKE 'parent%'}), qr/Connections/,
	'H4: with the way out');

$node->configure('angles.notion_token' => 'bad_token');
is((split(/ /, items()))[-1], 'token=critical', 'H4: a token that Notion refuses');
unlike($node->sql('SELECT * FROM angles.check_notion()'), qr/bad_token/, 'K1: the token is not shown');

$node->configure('angles.notion_token' => "two words");
is(items(), 'token=critical', 'H4: a token that cannot be one');
wait_for(sub { $node->log_from(0) =~ /the Notion token holds white space/ }, 'H4: the log says so');
unlike($node->log_from(0), qr/WARNING.*two words/, 'K1: without showing it');

$node->configure('angles.notion_token' => 'ntn_rotated_in_the_file');
is(items(), 'data=ok parent=critical token=ok', 'H4: another token takes over at a reload');
unlike($node->log_from(0), qr/changed to "(?:ntn_rotated|two words|bad_token)/,
	'K1: a reload does not write the new token into the log');
is($node->sql("SHOW angles.notion_token"), '********', 'K1: not even a superuser sees it');
is($node->sql("SELECT count(*) FROM pg_settings WHERE concat(setting, boot_val, reset_val) LIKE '%ntn_%'"), 0,
	'K1: nor in pg_settings');

$node->configure('angles.notion_token' => undef);
is(items(), 'token=critical', 'H4: no token at all');

done_testing();
