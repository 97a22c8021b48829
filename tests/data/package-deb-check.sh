#!/bin/bash
# The Debian package on a machine that has a configuration already: installed, started, serving, upgraded while it
# serves, removed, purged. Run on a bare Debian that scripts/systemd-guest has booted.
#
#   package-deb-check.sh PACKAGE NEWER-PACKAGE
set -u
. "$(dirname "$0")/check-functions.sh"
deb=$1 newer=$2 data=$(readlink -f "$(dirname "$0")")
VIP=192.0.2.100 GATEWAY=10.0.0.254 HA=/etc/sysconfig/ha
export DEBIAN_FRONTEND=noninteractive
cd /tmp

version() { dpkg-deb -f "$1" Version; }
status() { dpkg-query -W -f '${db:Status-Abbrev}' piranha | tr -d ' '; }
quiet_install() { dpkg -i "$1" </dev/null; }
# What a program waits for, in a file that another one writes.
says() { [ "$(cat "$1" 2>/dev/null)" = "$2" ] || { cat "$1"; return 1; }; }
# The traffic's own complaints are worth more than anything else.
more() { grep -v ssl3_read_n /tmp/traffic.log; journalctl --no-pager -n 30 -u pulse -u piranha-gui; }
higher() { [ "$(cat "$1")" -gt "$2" ]; }
broken_or_higher() { case $(cat "$1") in broken*) return 0;; esac; higher "$@"; }
enabled() { systemctl -q is-enabled "$1"; }
absent() { local path; for path; do [ ! -e "$path" ] && [ ! -L "$path" ] || { echo "$path is there"; return 1; }; done; }
servers() { ipvsadm -Sn | grep -c -- "-a -t $VIP:$1 "; }
has_servers() { is "$(servers "$1")" 2; }

# ---- The network: two segments, outside with a client, inside with two servers; on both this director and a partner,
# who comes later.
ip netns add switch
for segment in outer inner; do ip -n switch link add $segment type bridge forward_delay 0; ip -n switch link set $segment up; done
# attach SEGMENT NAME DEVICE ADDRESS... : where NAME is a network namespace, or "here".
attach() {
  local segment=$1 name=$2 device=$3 side=(); shift 3
  if [ "$name" != here ]; then side=(-n "$name"); ip netns add "$name" 2>/dev/null; ip -n "$name" link set lo up; fi
  ip -n switch link add "$name-$segment" type veth peer name peer
  ip -n switch link set peer name "$device" netns "$([ "$name" = here ] && echo 1 || echo "$name")"
  ip -n switch link set "$name-$segment" master $segment up
  ip "${side[@]}" link set "$device" up
  for address; do ip "${side[@]}" addr add "$address/24" dev "$device"; done
}
attach outer client eth0 192.0.2.1
attach inner servers eth0 10.0.0.21 10.0.0.22
ip -n servers route add default via $GATEWAY
attach outer here eth0 192.0.2.11; attach inner here eth1 10.0.0.11
attach outer partner eth0 192.0.2.12; attach inner partner eth1 10.0.0.12
openssl req -x509 -newkey rsa:2048 -nodes -keyout /tmp/key -out /tmp/cert -days 2 -subj /CN=test 2>/dev/null
cat /tmp/key /tmp/cert >/tmp/both
inside() { ip netns exec "$@" </dev/null >/dev/null 2>>/tmp/traffic.log & }
inside servers perl $data/traffic.pl serve 10.0.0.21 10.0.0.22
for server in 10.0.0.21 10.0.0.22; do inside servers perl $data/traffic.pl https /tmp/both $server; done
# A connection that is to stay, and new ones all the time.
traffic() {
  rm -f /tmp/kept /tmp/probed
  inside client perl $data/traffic.pl keep $VIP /tmp/kept; keep=$!
  inside client perl $data/traffic.pl probe $VIP /tmp/probed; probe=$!
  check "a connection is there to stay" eventually higher /tmp/kept 3
  check "and others come and go" eventually says /tmp/probed answered
}
lives() {
  local lines; lines=$(cat /tmp/kept)
  check "the connection lives" eventually broken_or_higher /tmp/kept "$lines"
  check "and is the same one" higher /tmp/kept "$lines"
}
probed() {
  local answered refused longest
  kill -TERM $probe; wait $probe
  read -r answered refused longest </tmp/probed
  echo "#       $answered new connections were answered, $refused not; longest time without: $longest ms"
  check "new connections were answered" test "$answered" -gt 20
}

# ---- The operator's files, as copied from another machine, where the group had the number 60.
mkdir -p $HA/conf
cp "$data/lvs-check-https.sh" $HA/
cat >$HA/lvs.cf <<CF
serial_no = 48
primary = 192.0.2.11
service = lvs
backup_active = 0
backup = 192.0.2.12
network = nat
nat_router = $GATEWAY eth1:1
nat_nmask = 255.255.255.0
virtual http {
     active = 1
     address = $VIP eth0:1
     vip_nmask = 255.255.255.0
     port = 80
     scheduler = rr
     timeout = 6
     server one {
         address = 10.0.0.21
         active = 1
     }
     server two {
         address = 10.0.0.22
         active = 1
     }
}
virtual https {
     active = 1
     address = $VIP eth0:1
     vip_nmask = 255.255.255.0
     port = 443
     send_program = "$HA/lvs-check-https.sh %h"
     expect = "OK"
     timeout = 10
     server one {
         address = 10.0.0.21
         active = 1
     }
     server two {
         address = 10.0.0.22
         active = 1
     }
}
CF
# The password is "secret".
echo "piranha:$(openssl passwd -apr1 -salt 8sFt66rZ secret)" >$HA/conf/piranha.passwd
printf '# ours\nOPTIONS="--verbose"\n' >/etc/sysconfig/pulse
chown -R root:60 $HA; chown 60:60 $HA/conf/piranha.passwd
chmod 640 $HA/lvs.cf; chmod 644 $HA/conf/piranha.passwd; chmod 755 $HA $HA/conf $HA/lvs-check-https.sh
files=($HA/lvs.cf $HA/conf/piranha.passwd $HA/lvs-check-https.sh /etc/sysconfig/pulse)
sha256sum "${files[@]}" >/tmp/sums
unchanged() { sha256sum --quiet -c /tmp/sums; }

echo "# installed"
forward=$(cat /proc/sys/net/ipv4/ip_forward)
check "apt installs it, and asks nothing" apt-get -y -q install "$deb"
check "its version is right" is "$(dpkg-query -W -f '${Version}' piranha)" "$(version "$deb")"
check "nothing runs" nothing_runs
check "the page does not run" not pgrep -l piranha_gui
for service in pulse piranha-gui; do
  check "$service is not enabled" not enabled $service
  check "nor by rc links" absent /etc/rc3.d/S??$service
done
check "the operator's files are as they were" unchanged
check "the group 60 is another one here" not is "$(getent group 60 | cut -d: -f1)" piranha
check "the user is there" is "$(id -gn piranha) $(getent passwd piranha | cut -d: -f6,7)" "piranha /var/lib/piranha:/usr/sbin/nologin"
check "lvs.cf is the group's to write, and nobody else's than before" is "$(owner $HA/lvs.cf)" "root:piranha 660"
check "its directories too" is "$(owner $HA) $(owner $HA/conf)" "root:piranha 775 root:piranha 775"
check "the passwords are the page's alone" is "$(owner $HA/conf/piranha.passwd)" "piranha:piranha 600"
check "the check script is the operator's" is "$(owner $HA/lvs-check-https.sh)" "root:games 755"
check "a setting that was missing is the sample" cmp /etc/sysconfig/piranha-gui /usr/share/piranha/sysconfig/piranha-gui
check "with its mode" is "$(owner /etc/sysconfig/piranha-gui)" "root:root 644"
check "the directories of the page" is "$(owner /var/lib/piranha) $(owner /var/lib/piranha/history) $(owner /var/log/piranha)" \
  "piranha:piranha 755 piranha:piranha 2770 piranha:piranha 750"
check "the files are those of the package" dpkg --verify piranha
for program in pulse lvsd nanny fos send_arp piranhactl piranha_gui piranha-passwd lvs-check; do
  check "$program runs" $program --version
done
check "lvs-check has its names" sh -c 'lvs-check-https --help | grep -q lvs-check'
check "the kernel's settings are left to the operator" is "$(cat /proc/sys/net/ipv4/ip_forward)" "$forward"
check "and are his to put in force" sysctl -q -p /etc/sysctl.d/60-piranha.conf
check "now they are" is "$(cat /proc/sys/net/ipv4/ip_forward)" 1
check "logrotate can read its file" logrotate --debug /etc/logrotate.d/piranha
check "there is nothing to be said against the configuration" piranhactl check

echo "# serving"
check "start" systemctl start pulse
check "it serves" eventually serves
check "with the servers of port 80" eventually has_servers 80
check "and those whom the check script finds up" eventually has_servers 443
check "enabled by the operator" systemctl -q enable pulse
check "start of the page" systemctl start piranha-gui
check "it knows the password" answers /secure/control 200 "Authorization: Basic $(printf 'piranha:secret' | base64)"
traffic

echo "# upgraded, while it serves"
sed -i 's/rotate 12/rotate 24/' /etc/logrotate.d/piranha
pid=$(show MainPID) page=$(show MainPID piranha-gui)
check "dpkg installs the newer one, and asks nothing" quiet_install "$newer"
check "its version is right" is "$(dpkg-query -W -f '${Version}' piranha)" "$(version "$newer")"
check "pulse is another process" eventually is_new "$pid"
check "of the new program" is "$(readlink "/proc/$(show MainPID)/exe")" /usr/sbin/pulse
check "so is the page" eventually is_new "$page" piranha-gui
check "it serves" eventually serves
check "all servers are back" eventually has_servers 443
lives
check "the page answers" eventually answers /secure/ 401
check "pulse is enabled as before, the page is not" sh -c 'systemctl -q is-enabled pulse && ! systemctl -q is-enabled piranha-gui'
check "the operator's files are as they were" unchanged
check "what he changed in /etc stays" grep -q "rotate 24" /etc/logrotate.d/piranha
probed

echo "# back to the older one, with a policy that forbids to touch services"
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d
systemctl stop piranha-gui
pid=$(show MainPID)
check "dpkg installs it" quiet_install "$deb"
check "pulse is the same process" is "$(show MainPID)" "$pid"
check "it serves" serves
rm /usr/sbin/policy-rc.d
check "once more the newer one" quiet_install "$newer"
check "pulse is another process" eventually is_new "$pid"
check "the page, which did not run, does not" not pgrep -l piranha_gui
check "it serves" eventually serves

echo "# the active node of a pair, upgraded while it serves"
cp -p $HA/lvs.cf /tmp/single.cf
sed -i 's/^backup_active = 0/backup_active = 1\nkeepalive = 1\ndeadtime = 10\nsyncdaemon = 1\nsyncd_iface = eth1/' $HA/lvs.cf
sha256sum "${files[@]}" >/tmp/sums
check "the configuration of a pair" systemctl reload pulse
ip netns exec partner sysctl -q -p /etc/sysctl.d/60-piranha.conf
inside partner sh -c 'mount -t tmpfs tmpfs /run/piranha && exec /usr/sbin/pulse -n'; partner=$!
state() { piranhactl status | grep -q "^$1 .* $2 " || { piranhactl status; return 1; }; }
knows_the_connection() { ip netns exec partner ipvsadm -Lnc | grep -q ESTABLISHED; }
partner_serves() { ip -n partner -4 addr | grep -q "$VIP/" && not has_address $VIP; }
check "the partner is there" eventually state partner inactive
kill $keep
traffic
check "the partner's kernel is told of the connection" eventually knows_the_connection
check "dpkg installs a package, older this time" quiet_install "$deb"
check "the partner has taken over" eventually partner_serves
check "this node stands by" eventually state "this node" inactive
check "with the program of the package" is "$(dpkg-query -W -f '${Version}' piranha)" "$(version "$deb")"
lives
probed
kill -TERM $partner
check "the partner ends, and this node serves" eventually serves
lives
kill $keep
check "the operator's files are as they were" unchanged
check "the newer package again" quiet_install "$newer"
cp -p /tmp/single.cf $HA/lvs.cf
sha256sum "${files[@]}" >/tmp/sums
systemctl restart pulse
check "it serves" eventually serves

echo "# removed"
systemctl start piranha-gui
cp $HA/lvs.cf /var/lib/piranha/history/00000001.cf
check "apt removes it" apt-get -y -q remove piranha
check "addresses and table are gone" gone
check "nothing is left running" nothing_runs
check "nor the page" not pgrep -l piranha_gui
check "programs and units are gone" absent /usr/sbin/{pulse,lvsd,nanny,fos,send_arp,piranhactl,piranha_gui,piranha-passwd,lvs-check,lvs-check-https} \
  /usr/lib/systemd/system/{pulse,piranha-gui}.service /usr/share/piranha /usr/share/doc/piranha /usr/share/man/man8/pulse.8.gz
check "the operator's files are as they were" unchanged
check "the versions of lvs.cf and the logs are there" test -f /var/lib/piranha/history/00000001.cf -a -f /var/log/piranha/access_log
check "what is left in /etc cannot start" not systemctl start pulse
check "logrotate is content with what is left" logrotate --debug /etc/logrotate.d/piranha

echo "# installed anew"
check "apt installs it" apt-get -y -q install "$newer"
check "nothing runs" nothing_runs
check "pulse is enabled as the operator had it" enabled pulse
check "the page is not" not enabled piranha-gui
check "the operator's files are as they were" unchanged
check "start" systemctl start pulse
check "it serves" eventually serves

echo "# purged"
check "apt purges it" apt-get -y -q purge piranha
check "addresses and table are gone" gone
check "nothing is left running" nothing_runs
check "the operator's files are as they were" unchanged
check "an untouched sample is gone" absent /etc/sysconfig/piranha-gui
check "settings in /etc are gone" absent /etc/init.d/{pulse,piranha-gui} /etc/logrotate.d/piranha /etc/sysctl.d/60-piranha.conf \
  /etc/rc?.d/???{pulse,piranha-gui}
check "nothing is enabled or masked" absent /etc/systemd/system/{,multi-user.target.wants/}{pulse,piranha-gui}.service
check "what it wrote is gone" absent /var/lib/piranha /var/log/piranha /var/lib/systemd/deb-systemd-helper-enabled/pulse.service.dsh-also
check "the user stays" getent passwd piranha
check "dpkg knows it no more" not dpkg-query -W piranha

echo "# on a machine that has nothing"
rm -r /etc/sysconfig
check "apt installs it" apt-get -y -q install "$deb"
check "lvs.cf is the sample" cmp $HA/lvs.cf /usr/share/piranha/sysconfig/ha/lvs.cf
check "its rights are right" is "$(owner $HA) $(owner $HA/lvs.cf) $(owner /etc/sysconfig/pulse)" "root:piranha 775 root:piranha 664 root:root 644"
check "pulse has nothing to do with it" not systemctl start pulse
systemctl stop pulse
check "a password is set" sh -c 'echo secret | piranha-passwd'
check "only for the page" is "$(owner $HA/conf/piranha.passwd)" "piranha:piranha 600"
rm /etc/sysconfig/piranha-gui
check "upgraded" quiet_install "$newer"
check "a setting that was removed stays away" absent /etc/sysconfig/piranha-gui
check "nothing runs" nothing_runs
check "apt purges it" apt-get -y -q purge piranha
check "nothing is left" absent /etc/sysconfig /var/lib/piranha /var/log/piranha
check "installed once more" apt-get -y -q install "$newer"
sed -i 's/^serial_no = 1$/serial_no = 2/' $HA/lvs.cf
sed -i 's/OPTIONS=""/OPTIONS="--verbose"/' /etc/sysconfig/pulse
check "purged" apt-get -y -q purge piranha
check "what the operator has written is there" grep -q "serial_no = 2" $HA/lvs.cf
check "settings of his too" grep -q verbose /etc/sysconfig/pulse
check "the other ones are gone" absent /etc/sysconfig/piranha-gui $HA/conf
finish
