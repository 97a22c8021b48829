#!/bin/bash
# Does what docs/network.md says, on a director, a router, a client and a real server for each way of forwarding, and
# asks the site after each step.
#
#   tests/data/network.sh
#
# Director and servers are Debians, each booted by systemd in a container of its own, on Debian's own kernel in QEMU
# (scripts/ipvs-vm): nftables, sysctl and systemd-networkd are the real ones. The package is that of
# scripts/package. A line for each check; ends with 0 if all is well. Needs root, and apt.
#
# Not executed: the lines with nmcli. They are given to "nmcli --offline", which reads and understands them, and says
# which file would come of them; "connection up" is left. nmcli is taken out of its package, which is not installed.
set -u
cd "$(dirname "$(readlink -f "$0")")/../.."
PAGE=docs/network.md
. scripts/lib-docs.sh

# ---- Outside: what the guest needs; nmcli; then the guest.
if [ "${1:-}" != inside ]; then
  set -e
  . scripts/lib-apt.sh
  . scripts/lib-cargo.sh
  ensure systemd-nspawn:systemd-container openssl:openssl curl:curl ip:iproute2 socat:socat tcpdump:tcpdump
  root=$(scripts/systemd-guest --with nftables,nginx-light --prepare)
  library=/usr/lib/$(uname -m)-linux-gnu
  ensure "$library/libnm.so.0:libnm0" "$library/libreadline.so.8:libreadline8"
  work=$(mktemp -d "$(target_directory)/network.XXXXXX"); trap 'rm -rf "$work"' EXIT
  fetch_manager() { ( cd "$work" && apt-get -qq -o APT::Sandbox::User=root download network-manager && dpkg -x network-manager_*.deb manager ); }
  fetch_manager || { apt_update; fetch_manager; }
  package_for_docs "$work"
  scripts/ipvs-vm --backend qemu --timeout 1200 --mem 3072 --modules "ip_vs ip_vs_wlc ipip dummy" -- \
    tests/data/network.sh inside "$root" "$work"
  exit
fi
base=$2 package=$3
. tests/data/machines.sh
blocks=/run/blocks
doc_blocks $PAGE $blocks || exit 1

# ---- The machines: clients beyond a router, a segment for all, one behind the director, one far away.
machines_begin
segment outside public inner far
machine router && plug router eth0 public 192.0.2.1/24 && plug router eth1 far 198.51.100.1/24 && plug router eth2 outside 203.0.113.1/24 &&
  ip netns exec router sysctl -qw net.ipv4.ip_forward=1 || give_up router
machine client && plug client eth0 outside 203.0.113.50/24 && ip -n client route add default via 203.0.113.1 || give_up client
machine director && plug director eth0 public 192.0.2.11/24 && plug director eth1 inner 10.0.0.11/24 &&
  ip -n director route add default via 192.0.2.1 && layer director "$base" || give_up director
cp "$package"/piranha_*.deb /run/director/root/root/ || give_up "there is no package"
rm -f /run/director/root/etc/systemd/system/multi-user.target.wants/nginx.service
machine nat && plug nat eth0 inner 10.0.0.21/24 || give_up nat
machine direct && plug direct eth0 public 192.0.2.22/24 && ip -n direct route add default via 192.0.2.1 || give_up direct
machine tunnel && plug tunnel eth0 far 198.51.100.23/24 && ip -n tunnel route add default via 198.51.100.1 || give_up tunnel
for name in nat direct tunnel; do layer $name "$base" && web_server $name $name || give_up $name; done
for name in director nat direct tunnel; do boot $name; done
boots director nat direct tunnel
for name in nat direct tunnel; do check "$name serves" until_done 60 on $name systemctl -q is-active nginx; done
check "the package is installed" on director sh -c 'apt-get -qq -y install ./piranha_*.deb'
echo "# the machines are up ($SECONDS s)"

# ---- How they are asked.
BOTH='192.0.2.100'
no_findings() { on director piranhactl check --system; }
# serve NAME : pulse with the page's lvs.cf of that name, instead of what ran.
serve() {
  doc_file $PAGE "lvs.cf $1" >/run/lvs.cf && on director systemctl stop pulse &&
    on director sh -c 'cat >/etc/sysconfig/ha/lvs.cf' </run/lvs.cf && on director piranhactl check &&
    on director systemctl start pulse && until_done 60 has_address director $BOTH
}
asks() { answers client http://$BOTH/ "$1 for $2\$"; }
answered() { until_done 60 asks "$1" "${2:-203.0.113.50}" || { on director ipvsadm -Ln; on director piranhactl status; return 1; }; }
nobody() { not beside client curl -s -m 2 http://$BOTH/; }
# What comes up again when the system does.
# It goes on waiting for an IPv6 router, "configuring", when the addresses are there.
managed() { on "$1" networkctl --no-pager --no-legend list "$2" >/run/links 2>&1; grep -Eq ' (configured|configuring)' /run/links || { cat /run/links; return 1; }; }
left_alone() {
  on director systemctl restart systemd-networkd && until_done 60 managed director eth0 && until_done 60 managed director eth1 &&
    has_address director $BOTH && has_address director 10.0.0.254 &&
    not sh -c "nsenter -t ${LEADER[director]} -a journalctl -o cat -t pulse | grep 'removed from outside'"
}
default_is() { on "$1" ip -4 route show default | grep -q "via $2"; }
mac_is() { beside router ip neighbour flush to $BOTH; asks direct 203.0.113.50; beside router ip neighbour show $BOTH | grep -q "$(beside director cat /sys/class/net/eth0/address)"; }
gets_out() {
  beside client socat -T 20 TCP-LISTEN:8000,reuseaddr SYSTEM:'echo $SOCAT_PEERADDR' & local listener=$! peer
  until_done 20 sh -c 'ip netns exec client ss -Hltn | grep -q :8000'
  peer=$(on "$1" bash -c 'exec 5<>/dev/tcp/203.0.113.50/8000; read -r -t 10 peer <&5; echo "$peer"')
  kill $listener 2>/dev/null
  [ "$peer" = "$2" ] || { echo "from ${peer:-nobody}"; return 1; }
}
# The segment size that a server asks the client for.
asks_for_segments() {
  beside client timeout 20 tcpdump -Z root -l -n -c 1 -i eth0 "tcp[tcpflags] & (tcp-syn|tcp-ack) == (tcp-syn|tcp-ack) and src $BOTH" >/run/syn 2>/dev/null & local capture=$!
  until_done 10 sh -c '[ "$(ip netns exec client cat /proc/net/packet | wc -l)" -gt 1 ]'
  asks tunnel 203.0.113.50; wait $capture
  cat /run/syn; grep -q "mss $1," /run/syn
}
large_upload() { head -c 200000 /dev/zero | beside client curl -s -m 20 --data-binary @- http://$BOTH/ | grep -q tunnel; }

before() {
  case $1 in
    director) case $2 in *networkd*) on director sh -c 'ip addr flush dev eth0; ip addr flush dev eth1';; esac;;
    "nat networkd") on nat ip route del default;;
    "direct networkd") on direct ip addr del 192.0.2.100/32 dev lo; check "without its address the server drops what it gets" nobody;;
    "tunnel networkd") on tunnel sh -c 'ip addr del 192.0.2.100/32 dev tunl0; ip link set tunl0 down';;
    "nat") check "pulse serves" serve nat; check "without a gateway no answer comes back" nobody;;
    "direct") [ -n "$direct" ] || { check "pulse serves by direct routing" serve direct; check "a server without the address" nobody; }; direct=1;;
    "tunnel") [ -n "$tunnel" ] || { check "pulse serves by tunnels" serve tunnel; check "a server without a tunnel" nobody; }; tunnel=1;;
    "director full-nat") on nat ip route del default;;
    "director marks") check "pulse serves by NAT again" serve nat; on nat ip route replace default via 10.0.0.254;;
  esac
}
direct='' tunnel=''
after() {
  case $1 in
    "nat") check "NAT: the server answers" answered nat
      check "networkd, started anew, leaves pulse's addresses alone" left_alone
      check "what it sends of its own accord comes from the director" gets_out nat 192.0.2.11
      check "nothing is found" no_findings;;
    "nat networkd") check "networkd: it has the gateway" until_done 60 default_is nat 10.0.0.254
      check "networkd: the server answers" answered nat;;
    "director full-nat") check "another gateway: the server answers, and sees the director" answered nat 10.0.0.11
      check "nothing is found" no_findings
      on director nft -f /root/piranha.nft; on director sysctl -qw net.ipv4.vs.conntrack=0;;
    "direct") check "direct routing: the server answers" answered direct
      check "the router knows the director alone" mac_is
      check "nothing is found" no_findings;;
    "direct networkd") check "networkd: it has the address" until_done 60 has_address direct $BOTH
      check "networkd: the server answers" answered direct
      check "the router knows the director alone" mac_is;;
    "tunnel") check "tunnel: the server answers" answered tunnel
      case $2 in *maxseg*) check "it asks for segments that fit" asks_for_segments 1440; check "a large upload arrives" large_upload;; esac
      check "nothing is found" no_findings;;
    "tunnel networkd") check "networkd: it has the address" until_done 60 has_address tunnel $BOTH
      check "networkd: the server answers" answered tunnel;;
    "director marks")
      check "pulse serves by a mark" serve marks
      check "the server answers http" answered nat
      check "and https" until_done 30 answers client https://$BOTH/ "nat for"
      check "one service" sh -c "nsenter -t ${LEADER[director]} -a ipvsadm -Ln | grep -q 'FWM *80 wlc persistent 300'";;
    "director later") ;;
    "director")
      case $2 in *networkd*) check "the director's addresses are there" until_done 60 has_address director 192.0.2.11
        check "networkd has made them" until_done 60 managed director eth0
        check "and inside" until_done 60 has_address director 10.0.0.11; check "and its way out" until_done 60 default_is director 192.0.2.1;; esac;;
  esac
}
# nmcli's lines: read and understood, or not. One that modifies is given the connection that the page makes.
nmcli_line() {
  local verb=$2 file
  case "$1 $2 $3" in
    "nmcli connection modify") file=$("$package/manager/usr/bin/nmcli" --offline connection add type ethernet con-name "$4" ifname "$4" ipv4.method manual ipv4.addresses 10.0.0.21/24);
      "$package/manager/usr/bin/nmcli" --offline connection modify "${@:5}" <<<"$file";;
    "nmcli connection add") "$package/manager/usr/bin/nmcli" --offline connection add "${@:4}";;
    *) echo "not known to this test: $verb"; return 1;;
  esac
}

# ---- The page, in its order.
later=
for info in "$blocks"/*.info; do
  block=${info%.info} where=$PAGE:$(cat "${info%.info}.line")
  kind= who=; read -r kind who <"$info" || true
  case $kind in
    sh)
      title=$(head -1 "$block.text"); [ "$(wc -l <"$block.text")" -eq 1 ] || title="$title …"
      if [ "${who#* }" = nmcli ]; then
        while read -r -a words; do
          case ${words[*]} in
            "nmcli connection up "*) echo "left    $where: ${words[*]}";;
            *) check "$where: understood: ${words[*]:0:3}" nmcli_line "${words[@]}";;
          esac
        done <"$block.text"
        continue
      fi
      name=${who%% *}
      case $who in
        director|"director later"|"director full-nat"|"director marks"|nat|direct|tunnel|"nat networkd"|"direct networkd"|"tunnel networkd") ;;
        *) give_up "$where: \"$who\" is nothing that this test knows";;
      esac
      # It has something to judge when all is done.
      [ "$who" != "director later" ] || { later=$block; continue; }
      before "$who" "$(cat "$block.text")"
      on "$name" bash -eu -c "$(cat "$block.text")" >/run/shown 2>&1 || {
        echo "NOT OK  $where: $name: $title"; sed 's/^/        /' /run/shown; journals "$name"; exit 1; }
      echo "ok      $where: $name: $title"
      after "$who" "$(cat "$block.text")";;
    lvs.cf) ;;
    "") while IFS= read -r line; do
          ! type -P -- "${line%% *}" >/dev/null || give_up "$where: a command that is not executed: $line"
        done <"$block.text";;
    *) give_up "$where: a block of the kind \"$kind\"";;
  esac
done
check "$PAGE: director: $(cat "$later.text")" on director bash -eu -c "$(cat "$later.text")"
if [ $failed = 0 ]; then echo "# all is well ($SECONDS s)"; else journals director; fi
exit $failed
