#!/bin/bash
# pulse and the web page as services of systemd. Run by scripts/test on a Debian that scripts/systemd-guest has booted,
# with the suite installed and nothing started. A line for each check, and the journal when one fails.
set -u
. "$(dirname "$0")/check-functions.sh"
VIP=192.0.2.100 GATEWAY=10.0.0.254 CONFIG=/etc/sysconfig/ha/lvs.cf

# The node of the sample: two interfaces, with somebody on the other side.
for n in 0 1; do ip link add eth$n type veth peer name far$n && ip link set eth$n up && ip link set far$n up; done
ip addr add 192.0.2.11/24 dev eth0
ip addr add 10.0.0.11/24 dev eth1
sysctl -q --system >/dev/null 2>&1
check "the kernel's settings are in force" is "$(cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/all/promote_secondaries)" $'1\n1'

echo "# the sample as it comes"
check "pulse is not enabled by itself" not systemctl -q is-enabled pulse
check "it can be enabled" systemctl -q enable pulse
check "and is then" systemctl -q is-enabled pulse
check "and disabled again" systemctl -q disable pulse
check "it does not start with the sample, which has nothing to do" not systemctl start pulse
check "and says why" eventually logged pulse "pulse: no active lvs services defined in $CONFIG"
systemctl stop pulse
check "piranhactl says so too" not piranhactl check
sed -i 's/^     active = 0$/     active = 1/' $CONFIG
check "with active = 1 there is nothing to be said against it" piranhactl check

echo "# the unit"
check "start" systemctl start pulse
check "it is active" systemctl -q is-active pulse
check "it serves" eventually serves
check "systemd and the pid file mean the same process" eventually is "$(show MainPID)" "$(cat /run/pulse.pid)"
check "one line in the journal, not two" is "$(journalctl --no-pager -o cat -u pulse | grep -c 'STARTING PULSE AS MASTER')" 1
check "service status" service pulse status
check "the init script leaves it to systemd" sh -c '/etc/init.d/pulse status | grep -q "Active: active (running)"'
pid=$(show MainPID)
sed -i 's/^serial_no = .*/serial_no = 2/' $CONFIG
check "reload" systemctl reload pulse
check "the new configuration is in force" eventually logged lvsd "configuration 2 is in force"
check "in the same process" is "$(show MainPID)" "$pid"
check "service reload" service pulse reload
check "restart" systemctl restart pulse
check "in another process" is_new "$pid"
check "it serves again" eventually serves

echo "# killed"
restarts=$(show NRestarts) pid=$(show MainPID)
kill -KILL "$pid"
# The restart waits for two seconds.
check "the guard takes the addresses down" eventually not has_address $VIP
check "it says so" eventually logged pulse-guard "pulse is gone"
check "systemd starts it again" eventually is_new "$pid"
check "once" is "$(show NRestarts)" $((restarts + 1))
check "and it serves" eventually serves

echo "# stopped"
check "stop" systemctl stop pulse
check "addresses and table are gone" gone
check "nothing is left behind" eventually nothing_runs
check "systemd has nothing against how it ended" is "$(show Result)" success
check "try-restart starts nothing" systemctl try-restart pulse
check "nothing runs" nothing_runs
check "status says that it does not run" is "$(systemctl status pulse >/dev/null; echo $?)" 3
check "service start" service pulse start
check "it serves" eventually serves
check "service restart" service pulse restart
check "service stop" service pulse stop
check "addresses and table are gone" gone
check "nothing is left behind" eventually nothing_runs

echo "# a configuration that is wrong"
cp $CONFIG /tmp/good.cf
echo 'frob = 1' >>$CONFIG
check "start fails" not systemctl start pulse
check "the journal says why" eventually logged pulse "pulse: error parsing $CONFIG at line $(wc -l <$CONFIG): unknown command"
cp /tmp/good.cf $CONFIG
check "it is tried again, and succeeds now" eventually serves
systemctl stop pulse

echo "# in stricter bounds"
dropin=/etc/systemd/system/pulse.service.d
mkdir -p $dropin; cp /usr/share/doc/piranha/examples/pulse-hardened.conf $dropin/
systemctl daemon-reload
exposure() { systemd-analyze security --no-pager "$1" | sed -n 's/.*Overall exposure level for //p'; }
cp $CONFIG /tmp/sample.cf
printf '#!/bin/sh\necho OK\n' >/usr/local/sbin/check; chmod 755 /usr/local/sbin/check
sed -i 's|^     send = .*|     send_program = "/usr/local/sbin/check %h"|; s|^     expect = .*|     expect = "OK"|' $CONFIG
has_server() { ipvsadm -Sn | grep -q -- "-r 10.0.0.21:80 "; }
check "start" systemctl start pulse
check "it serves" eventually serves
check "a check script finds a server up" eventually has_server
check "reload" systemctl reload pulse
pid=$(show MainPID)
kill -KILL "$pid"
check "killed, it is started again" eventually is_new "$pid"
check "it serves" eventually serves
check "stop" systemctl stop pulse
check "addresses and table are gone" gone
check "nothing is left behind" eventually nothing_runs
echo "#       exposure: $(exposure pulse.service), in stricter bounds"
cp /tmp/sample.cf $CONFIG; rm -r $dropin; systemctl daemon-reload
echo "#       exposure: $(exposure pulse.service), as it comes; $(exposure piranha-gui.service)"
check "systemd understands every line of the units" is "$(systemd-analyze verify --man=no pulse.service piranha-gui.service 2>&1)" ""

echo "# the web page"
GUI=piranha-gui
login() { answers "$1" 200 "Authorization: Basic $(printf 'piranha:secret' | base64)"; }
page_says() { login "$1" && grep -q "$2" /tmp/page; }
check "it is not enabled by itself" not systemctl -q is-enabled $GUI
# Debian has another group 60: the next free number then.
check "there is its user, with a group of its own" is "$(id -gn piranha):$(id -u piranha)" "piranha:$(id -g piranha)"
rm -r /var/lib/piranha /var/log/piranha
check "start" systemctl start $GUI
check "its directories are there" is "$(owner /var/lib/piranha) $(owner /var/lib/piranha/history) $(owner /var/log/piranha)" \
  "piranha:piranha 755 piranha:piranha 2770 piranha:piranha 750"
check "it is the user piranha" is "$(ps -o user= -p "$(show MainPID $GUI)")" piranha
check "with no rights of root" is "$(sed -n 's/^Cap\(Eff\|Prm\|Amb\):\t*0*/\1/p' "/proc/$(show MainPID $GUI)/status")" $'Prm\nEff\nAmb'
check "the password is asked for" answers /secure/ 401
check "setting one" sh -c 'echo secret | piranha-passwd'
check "it lets in, without a restart" login /secure/control
check "a wrong one does not" answers /secure/control 401 "Authorization: Basic $(printf 'piranha:wrong' | base64)"
check "pulse does not run" page_says /secure/control "pulse is not running"
systemctl start pulse
check "pulse is asked" eventually page_says /secure/control 'class="state up">active<'
check "lvsd too" eventually page_says /secure/metrics 'piranha_up{daemon="lvsd"} 1'
token=$(login /secure/virtual; sed -n 's/.*name="token" value="\([^"]*\)".*/\1/p' /tmp/page | head -1)
check "forms have a token" test -n "$token"
post() {
  exec 5<>/dev/tcp/127.0.0.1/3636 || return 1
  printf 'POST %s HTTP/1.0\r\nHost: 127.0.0.1:3636\r\nSec-Fetch-Site: same-origin\r\nAuthorization: Basic %s\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s' \
    "$1" "$(printf 'piranha:secret' | base64)" ${#2} "$2" >&5
  cat <&5 >/tmp/page
  exec 5>&-
}
check_passes() { post /secure/virtual/1/servers/1/test "token=$token" && grep -q "The check passed" /tmp/page || { sed 's/<[^>]*>//g' /tmp/page; return 1; }; }
cp $CONFIG /tmp/sample.cf
printf '#!/bin/sh\n[ "$(id -un)" = piranha ] && >/tmp/mine && echo OK\n' >/root/check; chmod 755 /root/check; chmod 711 /root
sed -i '0,/^     send = /s|^     send = .*|     send_program = "/root/check"|; 0,/^     expect = /s|^     expect = .*|     expect = "OK"|' $CONFIG
check "a check script is tested as the user piranha" check_passes
cp /tmp/sample.cf $CONFIG
login /secure/virtual
base=$(sed -n 's/.*name="base" value="\([^"]*\)".*/\1/p' /tmp/page | head -1)
blocks() { grep -c '^ *virtual ' $CONFIG; }
before=$(blocks)
post /secure/virtual "token=$token&base=$base&do=add"
check "a change is saved" is "$(blocks)" $((before + 1))
check "the file's rights stay" is "$(owner $CONFIG)" "piranha:piranha 664"
check "versions are kept" eventually sh -c 'test -n "$(find /var/lib/piranha/history -name "*.cf")"'
cp /tmp/sample.cf $CONFIG
mv /var/log/piranha/access_log /var/log/piranha/access_log.1
pid=$(show MainPID $GUI)
check "reload" systemctl reload $GUI
check "begins a new log" eventually test -e /var/log/piranha/access_log
check "in the same process" is "$(show MainPID $GUI)" "$pid"
check "service status" service $GUI status
check "service restart" service $GUI restart
check "in another process" not is "$(show MainPID $GUI)" "$pid"
cp /etc/sysconfig/$GUI /tmp/settings
echo 'OPTIONS="--tls"' >/etc/sysconfig/$GUI
check "restart with --tls" systemctl restart $GUI
check "it speaks HTTPS" eventually logged $GUI "serves https://0.0.0.0:3636/"
check "only root can read the certificate's key" is "$(owner /var/lib/piranha/piranha-gui.key)" "root:root 600"
cp /tmp/settings /etc/sysconfig/$GUI
systemctl restart $GUI
pid=$(show MainPID $GUI)
kill -KILL "$pid"
again() { [ "$(show MainPID $GUI)" != "$pid" ] && answers /secure/ 401; }
check "killed, it is started again" eventually again
check "stop" systemctl stop $GUI
check "nobody answers" not answers / 200
check "systemd has nothing against how it ended" is "$(show Result $GUI)" success
check "pulse has not noticed" serves
systemctl stop pulse
check "nothing is left behind" eventually nothing_runs

echo "# the init script alone, as a unit that systemd makes of it"
rm /lib/systemd/system/pulse.service
systemctl daemon-reload
check "it is a unit" is "$(show SourcePath)" /etc/init.d/pulse
check "service start" service pulse start
check "it serves" eventually serves
check "service status" service pulse status
check "the init script itself" sh -c '/etc/init.d/pulse status | grep -q "is running"'
check "service reload" service pulse reload
check "service stop" service pulse stop
check "addresses and table are gone" gone
check "nothing is left behind" eventually nothing_runs
rm /lib/systemd/system/piranha-gui.service
systemctl daemon-reload
check "service $GUI start" service $GUI start
check "the page answers" eventually answers /secure/ 401
check "the init script itself" sh -c '/etc/init.d/piranha-gui status | grep -q "is running"'
check "service $GUI stop" service $GUI stop
check "nobody answers" not answers / 200
finish
