# GitServer.pm
#	A real Git server on loopback: git http-backend behind nginx, with TLS by an authority of our own
#	and a token; and a proxy before it that spoils connections. See README.md.
package GitServer;

use strict;
use warnings;

use Cwd ();
use Exporter 'import';
use File::Basename ();
use IO::Socket::INET;
use Test::More;

use AnglesTest;
use GitTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

our @EXPORT = qw(start_git_server missing_programs);

my $dir = Cwd::abs_path(File::Basename::dirname(__FILE__));
my $token = 'tok_0123456789abcdef';
my $n_proxies = 0;

# Those that hold a hung request are of no use until it is over.
my $n_backends = 40;

# Returns the programs that are not installed here, '' when all are.
sub missing_programs
{
	return join(' ', grep { !-x $_ } '/usr/sbin/nginx', '/usr/sbin/fcgiwrap', '/usr/lib/git-core/git-http-backend');
}

# Returns a running server: {top} is the folder with its repositories, {ca} the file of its authority.
sub start_git_server
{
	my $top = PostgreSQL::Test::Utils::tempdir_short();
	my $self = bless {
		top => "$top/repos", ca => "$top/certs/ca.crt", run => $top, token => $token,
		tls => PostgreSQL::Test::Cluster::get_free_port(),
		plain => PostgreSQL::Test::Cluster::get_free_port(),
	}, __PACKAGE__;
	my $log = "$PostgreSQL::Test::Utils::log_path/gitserver_" . File::Basename::basename($0, '.pl') . '.log';

	for my $made (qw(repos certs tmp))
	{
		mkdir "$top/$made" or die "could not make $top/$made: $!";
	}
	system("sh '$dir/../net-peer/certs.sh' '$top/certs' > '$log.certs' 2>&1") == 0
	  or BAIL_OUT("no certificates: see $log.certs");
	append_to_file("$top/htpasswd", "x-access-token:{PLAIN}$token\n");
	append_to_file("$top/nginx.conf", $self->_nginx_conf);
	# git http-backend turns in a circle for ever when its client has gone in mid-request
	append_to_file("$top/backend.sh", "#!/bin/sh\nulimit -t 2\nexec /usr/lib/git-core/git-http-backend\n");
	chmod 0755, "$top/backend.sh" or die "could not make $top/backend.sh a program: $!";
	# not one that forks: those would outlive the test
	AnglesTest::spawn($log, '/usr/sbin/fcgiwrap', '-s', "unix:$top/fcgi$_.sock") for 1 .. $n_backends;
	wait_for(sub { -S "$top/fcgi$_.sock" }, 'fcgiwrap listens') or BAIL_OUT("no fcgiwrap: see $log") for 1 .. $n_backends;
	AnglesTest::spawn($log, '/usr/sbin/nginx', '-p', $top, '-c', "$top/nginx.conf", '-g', 'daemon off;');
	wait_for(sub { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $self->{plain}) },
		'nginx listens') or BAIL_OUT("no nginx: see $log");
	return $self;
}

sub _nginx_conf
{
	my ($self) = @_;
	my $top = $self->{run};
	my $temp = join('', map { "\t${_}_temp_path $top/tmp/$_;\n" } qw(client_body proxy fastcgi uwsgi scgi));
	my $backends = join('', map { "\t\tserver unix:$top/fcgi$_.sock max_fails=0;\n" } 1 .. $n_backends);
	my $backend = <<"CONF";
			auth_basic "git";
			auth_basic_user_file $top/htpasswd;
			include /etc/nginx/fastcgi_params;
			fastcgi_param SCRIPT_FILENAME $top/backend.sh;
			fastcgi_param GIT_PROJECT_ROOT $top/repos;
			fastcgi_param GIT_HTTP_EXPORT_ALL "";
			fastcgi_param GIT_CONFIG_NOSYSTEM 1;
			fastcgi_param GIT_CONFIG_GLOBAL /dev/null;
			fastcgi_param PATH_INFO \$1;
			fastcgi_param REMOTE_USER \$remote_user;
			fastcgi_request_buffering off;
			fastcgi_buffering off;
			fastcgi_read_timeout 300s;
			fastcgi_pass backends;
CONF
	return <<"CONF";
worker_processes 1;
pid $top/nginx.pid;
error_log $top/nginx.log;
events { worker_connections 64; }
http {
$temp	access_log $top/access.log;
	client_max_body_size 0;
	keepalive_timeout 30s;
	upstream backends {
		least_conn;
$backends	}
	server {
		listen 127.0.0.1:$self->{plain};
		listen 127.0.0.1:$self->{tls} ssl http2;
		ssl_certificate $top/certs/good.crt;
		ssl_certificate_key $top/certs/good.key;
		ssl_protocols TLSv1.2 TLSv1.3;
		location ~ ^/git(/.*)\$ {
$backend		}
		location ~ ^/small(/.*)\$ {
			client_max_body_size 1k;
$backend		}
		location ~ ^/post503/.*/git-receive-pack\$ { return 503; }
		location ~ ^/post503(/.*)\$ {
$backend		}
		location ~ ^/post200/.*/git-receive-pack\$ { return 200 "0000"; }
		location ~ ^/post200(/.*)\$ {
$backend		}
		location /s401/ { return 401; }
		location /s403/ { return 403 "Write access to repository not granted.\\n"; }
		location /archived/ { return 403 "This repository was archived so it is read-only.\\n"; }
		location /abuse/ {
			add_header Retry-After 61 always;
			return 403 "You have exceeded a secondary rate limit.\\n";
		}
		location /s404/ { return 404 "Repository not found.\\n"; }
		location /s429/ { add_header Retry-After 7 always; return 429; }
		location /s500/ { return 500; }
		location /s502/ { return 502; }
		location /s504/ { return 504; }
		location /echo/ { return 403 "you said \$http_authorization\\n"; }
		location /html/ { default_type text/html; return 200 "<html>hello</html>"; }
		location ~ ^/moved(/.*)\$ { return 301 /git\$1?\$args; }
		location ~ ^/far(/.*)\$ { return 301 http://localhost:$self->{plain}/git\$1?\$args; }
		location ~ ^/trick(/.*)\$ { return 307 https://127.0.0.1:$self->{tls}\@example.com/git\$1?\$args; }
		location ~ ^/loop(/.*)\$ { return 302 /loop\$1?\$args; }
	}
}
CONF
}

# Returns the path of a new bare repository of the server; settings as "name=value".
sub make
{
	my ($self, $name, @settings) = @_;
	my $path = "$self->{top}/$name";
	git_lines('init', '-q', '--bare', '-b', 'main', $path);
	git_lines('-C', $path, 'config', 'http.receivepack', 'true');
	git_lines('-C', $path, 'config', split(/=/, $_, 2)) for @settings;
	return $path;
}

# Makes the repository run this shell text before it takes a push; undef: nothing.
sub hook
{
	my ($self, $name, $kind, $text) = @_;
	my $file = "$self->{top}/$name/hooks/$kind";
	unlink $file;
	return unless defined $text;
	append_to_file($file, "#!/bin/sh\n$text\n");
	chmod 0755, $file or die "could not make $file a program: $!";
}

# Returns the address of a repository, over TLS.
sub url
{
	my ($self, $name, $place) = @_;
	return sprintf('https://127.0.0.1:%d/%s/%s', $self->{tls}, $place // 'git', $name);
}

# The same without TLS, or through a proxy.
sub plain_url
{
	my ($self, $name, $port) = @_;
	return sprintf('http://127.0.0.1:%d/git/%s', $port // $self->{plain}, $name);
}

# Starts fault.js before the server (plain) and returns {port}, and {log} with what it prints.
sub fault
{
	my ($self, $mode, $after, @command) = @_;
	my $log = "$self->{run}/fault" . $n_proxies++;
	my $pid = AnglesTest::spawn($log, 'node', "$dir/fault.js", $self->{plain}, $mode, $after, @command);
	my $port = wait_for(sub { (slurp_file($log) =~ /^port (\d+)/m)[0] }, 'the proxy listens')
	  or BAIL_OUT("no proxy: see $log");
	return { port => $port, log => $log, pid => $pid };
}

# Returns what clients have sent in each connection that is over.
sub fault_sent
{
	my ($self, $fault) = @_;
	return slurp_file($fault->{log}) =~ /^sent (\d+)/mg;
}

# Ends a proxy: its port refuses from now on.
sub end_fault
{
	my ($self, $fault) = @_;
	AnglesTest::end_child($fault->{pid});
}

1;
