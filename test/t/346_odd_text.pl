# 346_odd_text.pl
#	Text that JavaScript can hold and SQL cannot: half a surrogate pair, U+0000. One cell with it must not
#	make a whole answer of Notion unusable.
use strict;
use warnings;

use Test::More;

use AnglesTest;
use SyncTest;

my $sim = start_simulator();
my $node = new_cluster('main', sim => $sim);

$node->sql(q{CREATE TABLE t (id int PRIMARY KEY, title text); INSERT INTO t VALUES (1, 'a'), (2, 'b')});
link_table($node, 't');
my ($page) = grep { $_->{id} eq '1' } pages($node, $sim, 't');
my $res = $sim->http('PATCH', "/v1/pages/$page->{_id}",
	'{"properties":{"title":{"title":[{"text":{"content":"half \ud83d and \u0000"}}]}}}');
is($res->{status}, 200, 'F3: somebody puts half a character into Notion');
$node->sql(q{SELECT angles.unlink('t'); DELETE FROM angles.pages});
link_table($node, 't');
is($node->sql('SELECT count(*) FROM angles.pages'), 2, 'F3: the pages are listed all the same');
is($node->sql(q{SELECT page_id FROM angles.pages WHERE key = '1'}), $page->{_id},
	'F3: and adopted, not made again');

done_testing();
