#!/usr/bin/perl
# Traffic for a director in a guest that has no more than Debian's smallest perl.
#
#   traffic.pl serve ADDRESS...      on port 80 of each: answers every line with the address and the line, and
#                                    a line "GET ..." as a web server
#   traffic.pl https CERT ADDRESS    on port 443, by openssl, one connection at a time: answers every request
#                                    with 200 and nothing else
#   traffic.pl keep ADDRESS FILE     one connection to port 80, a line ten times a second; FILE has the number
#                                    of lines answered, or how the connection ended
#   traffic.pl probe ADDRESS FILE    a new connection to port 80 every 20 ms, whatever became of the others; at
#                                    SIGTERM FILE has how many were answered and refused, and the longest time
#                                    between two answers, in ms
use strict;
use warnings;
use Errno qw(EINPROGRESS EAGAIN EINTR);
use IO::Select;
use IO::Socket::INET;
use IPC::Open2;

$SIG{PIPE} = 'IGNORE';
my ($what, @args) = @ARGV;

# The monotonic clock, in seconds: clock_gettime of x86_64, since this perl has no Time::HiRes.
sub now {
    syscall(228, 1, my $time = pack 'qq', 0, 0) == 0 or die "clock: $!";
    my ($seconds, $nanoseconds) = unpack 'qq', $time;
    return $seconds + $nanoseconds / 1e9;
}

sub note {
    my ($file, $text) = @_;
    open my $out, '>', "$file.new" or die "$file: $!";
    print $out "$text\n";
    close $out;
    rename "$file.new", $file or die "$file: $!";
}

sub serve {
    my @listen = map {
        IO::Socket::INET->new(LocalAddr => $_, LocalPort => 80, Listen => 128, ReuseAddr => 1) or die "$_: $@"
    } @_;
    my $select = IO::Select->new(@listen);
    my %buffer;
    while (1) {
        for my $ready ($select->can_read) {
            if (grep { $_ == $ready } @listen) {
                my $client = $ready->accept or next;
                $select->add($client);
                $buffer{$client} = '';
                next;
            }
            my $end = !sysread $ready, $buffer{$ready}, 4096, length $buffer{$ready};
            while ($buffer{$ready} =~ s/^(.*)\n//) {
                my $line = $1;
                if ($line =~ /^GET /) { syswrite $ready, "HTTP/1.0 200 OK\r\n\r\n"; $end = 1 }
                else { syswrite $ready, $ready->sockhost . " $line\n" }
            }
            if ($end) { $select->remove($ready); delete $buffer{$ready}; close $ready }
        }
    }
}

sub https {
    my ($cert, $address) = @_;
    my $pid = open2(my $out, my $in, 'openssl', 's_server', '-quiet', '-cert', $cert, '-key', $cert,
        '-accept', "$address:443");
    while (<$out>) {
        next unless /^\r?\n$/;
        syswrite $in, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    }
    waitpid $pid, 0;
}

sub keep {
    my ($address, $file) = @_;
    my $socket = IO::Socket::INET->new(PeerAddr => $address, PeerPort => 80, Timeout => 30) or die "$address: $@";
    for (my $n = 1; ; $n++) {
        if (!print $socket "$n\n" or !$socket->flush) { note($file, "broken: $!"); exit 1 }
        my $line = <$socket>;
        if (!defined $line) { note($file, 'broken: ' . ($! || 'end')); exit 1 }
        if ($line !~ / $n$/) { note($file, "broken: $line instead of $n"); exit 1 }
        note($file, $n);
        select undef, undef, undef, 0.1;
    }
}

sub probe {
    my ($address, $file) = @_;
    my $peer = pack_sockaddr_in(80, inet_aton($address));
    my ($run, $answered, $refused, $longest, $last) = (1, 0, 0, 0);
    $SIG{TERM} = sub { $run = 0 };
    my ($reading, $writing) = (IO::Select->new, IO::Select->new);
    my $next = now;
    while ($run) {
        if (now() >= $next) {
            $next += 0.02;
            my $socket = IO::Socket::INET->new(Proto => 'tcp', Blocking => 0) or die "socket: $!";
            if ($socket->connect($peer) or $! == EINPROGRESS) { $writing->add($socket) } else { $refused++ }
        }
        my $wait = $next - now;
        my ($r, $w) = IO::Select->select($reading, $writing, undef, $wait > 0 ? $wait : 0);
        for my $socket (@{ $w || [] }) {
            $writing->remove($socket);
            if (syswrite $socket, "probe\n") { $reading->add($socket) } else { $refused++ }
        }
        for my $socket (@{ $r || [] }) {
            $reading->remove($socket);
            if (!sysread $socket, my $line, 100) { $refused++; next }
            my $now = now;
            $longest = $now - $last if defined $last and $now - $last > $longest;
            $last = $now;
            # Here is how a waiting script knows that all is well.
            note($file, 'answered') if ++$answered == 1;
        }
    }
    note($file, sprintf '%d %d %d', $answered, $refused, 1000 * $longest);
}

my %do = (serve => \&serve, https => \&https, keep => \&keep, probe => \&probe);
($do{ $what // '' } or die "usage: see the first lines\n")->(@args);
