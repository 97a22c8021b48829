#!/bin/bash
# pulse as a service of systemd. Run by scripts/test on a Debian that scripts/systemd-guest has booted,
# with the suite installed and nothing started. A line for each check, and the journal when one fails.
set -u
export SYSTEMD_PAGER= SYSTEMD_COLORS=0
VIP=192.0.2.100 GATEWAY=10.0.0.254 CONFIG=/etc/sysconfig/ha/lvs.cf
failed=0

# check TEXT COMMAND... : says whether the command succeeded.
check() {
  local text=$1; shift
  if "$@" >/tmp/said 2>&1; then
    echo "ok      $text"
  else
    failed=1
    echo "NOT OK  $text: $*"; sed 's/^/        /' /tmp/said
    journalctl --no-pager -n 40 -u pulse | sed 's/^/        /'
  fi
}
# eventually COMMAND... : until it succeeds, for 30 s.
eventually() {
  local end=$((SECONDS + 30))
  until "$@"; do [ $SECONDS -lt $end ] || return 1; sleep 0.05; done
}
not() { ! "$@"; }
is() { [ "$1" = "$2" ] || { echo "'$1', not '$2'"; return 1; }; }
show() { systemctl show -P "$1" pulse; }
has_address() { ip -oneline -4 addr | grep -q " $1/"; }
logged() { journalctl --no-pager -o cat -t "$1" | grep -qF "$2"; }
nothing_runs() { not pgrep -l 'pulse|lvsd|nanny'; }
serves() { has_address $VIP && has_address $GATEWAY && ipvsadm -Ln | grep -q "TCP  $VIP:80"; }
gone() { not has_address $VIP && not has_address $GATEWAY && [ -z "$(ipvsadm -Sn)" ] || { ip -br addr; ipvsadm -Sn; return 1; }; }
is_new() { local pid; pid=$(show MainPID); [ "$pid" != 0 ] && [ "$pid" != "$1" ]; }

# The node of the sample: two interfaces, with somebody on the other side.
for n in 0 1; do ip link add eth$n type veth peer name far$n && ip link set eth$n up && ip link set far$n up; done
ip addr add 192.0.2.11/24 dev eth0
ip addr add 10.0.0.11/24 dev eth1
sysctl -q --system >/dev/null 2>&1
check "the kernel's settings are in force" is "$(cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/all/promote_secondaries)" $'1\n1'

echo "# the sample as it comes"
check "pulse is not enabled by itself" not systemctl -q is-enabled pulse
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
[ $failed = 0 ] && echo "# all is well"
exit $failed
