# Without shared_preload_libraries: everything that needs no worker works, the rest says why not.
use strict;
use warnings;

use Test::More;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use AnglesTest;

my $node = new_cluster('bare', preload => '');

ok(1, 'CREATE EXTENSION works');
is($node->sql('SELECT count(*) FROM angles.workers'), 0, 'there are no workers');
$node->fails_with("SELECT angles.request_rows('check_notion')", 'NG001', qr/shared_preload_libraries/,
	'a request says what is missing');
$node->fails_with("CALL angles.run('check_notion')", 'NG001', qr/shared_preload_libraries/, 'CALL, too');
my $id = $node->sql("SELECT angles.enqueue_run('check_notion')");
is($node->sql("SELECT state FROM angles.runs WHERE id = $id"), 'queued', 'a queued run waits for better times');
like($node->sql('SELECT angles.identity_now()'), qr/^[0-9a-f]{64}$/, 'the identity is known');
is($node->sql('SELECT identity = angles.identity_now() FROM angles.identity'), 't', 'in every session alike');
is($node->sql("SELECT angles.cancel($id)"), 't', 'a queued run can be cancelled');
$id = $node->sql("SELECT angles.enqueue_run('check_notion')");
$node->sql('CREATE DATABASE a');
$node->sql('CREATE EXTENSION angles', 'a');
$node->sql('DROP EXTENSION angles', 'a');
$node->sql('ALTER DATABASE a RENAME TO b; ');
$node->sql('DROP DATABASE b');
ok(1, 'DDL on databases and the extension works');

$node->append_conf('postgresql.conf', "shared_preload_libraries = 'angles'");
$node->restart;
$node->wait_sql("SELECT state = 'succeeded' FROM angles.runs WHERE id = $id", 'preloaded: the queued run is done');
$node->wait_sql("SELECT state = 'running' FROM angles.workers WHERE database = 'postgres'",
	'preloading does not make it another server');

done_testing();
