#!/bin/bash
# Does what docs/quick-start.md says, command by command, and looks whether the page's promises are kept.
#
#   tests/data/quick-start.sh
#
# Directors and servers are Debians, each booted by systemd in a container of its own, on Debian's own kernel in
# QEMU (scripts/ipvs-vm), so that systemd and nftables are the real ones. The package is that of scripts/package.
# A line for each check; ends with 0 if all is well. Needs root, and apt.
#
# Not executed: the lines with dnf (below), since there is no RHEL here. Its other lines are executed on Debian,
# with a unit that stands in for firewalld. Where the page has apt fetch what Debian has, it is there already.
set -u
cd "$(dirname "$(readlink -f "$0")")/../.."
PAGE=docs/quick-start.md
. scripts/lib-docs.sh

NOT_EXECUTED='dnf install ./piranha-*.rpm
dnf install nftables kernel-modules'

# ---- Outside: what the guest needs, then the guest.
if [ "${1:-}" != inside ]; then
  set -e
  . scripts/lib-apt.sh
  . scripts/lib-cargo.sh
  ensure systemd-nspawn:systemd-container openssl:openssl curl:curl ip:iproute2 socat:socat
  root=$(scripts/systemd-guest --with nftables,nginx-light --prepare)
  package=$(mktemp -d "$(target_directory)/quick-start.XXXXXX"); trap 'rm -rf "$package"' EXIT
  package_for_docs "$package"
  scripts/ipvs-vm --backend qemu --timeout 1200 --mem 3072 --modules "ip_vs ip_vs_wlc" -- \
    tests/data/quick-start.sh inside "$root" "$package"
  exit
fi
base=$2 package=$3
. tests/data/machines.sh

# ---- The machines.
machines_begin
segment public inner
for n in 1 2; do
  machine d$n && plug d$n eth0 public 192.0.2.1$n/24 && plug d$n eth1 inner 10.0.0.1$n/24 && layer d$n "$base" || give_up d$n
  cp "$package"/piranha_*.deb /run/d$n/root/root/ || give_up "there is no package"
  units=/run/d$n/root/etc/systemd/system
  rm -f $units/multi-user.target.wants/nginx.service
  printf '[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n' >$units/firewalld.service
  ln -s ../firewalld.service $units/multi-user.target.wants/
  machine s$n && plug s$n eth0 inner 10.0.0.2$n/24 && layer s$n "$base" && web_server s$n s$n || give_up s$n
done
machine client && plug client eth0 public 192.0.2.50/24 || give_up client
for name in d1 d2 s1 s2; do boot $name; done
boots d1 d2 s1 s2
for n in 1 2; do check "s$n serves" until_done 60 on s$n systemctl -q is-active nginx; done
echo "# the machines are up ($SECONDS s)"

# ---- What the page promises besides, looked at after a block with these words.
both_answer() { answers client "$1" s1 && answers client "$1" s2; }
only_s2() { local n; for n in 1 2 3 4; do answers client http://192.0.2.100/ s2 && answers client https://192.0.2.100/ s2 || return 1; done; }
rules_loaded() { on "$1" nft list ruleset | grep -q masquerade; }
service_is() { [ "$(on "$1" systemctl is-enabled "$2") $(on "$1" systemctl is-active "$2")" = "$3" ]; }
s1_is_out() { ! on d1 ipvsadm -Ln | grep -q 10.0.0.21; }
# Whom a machine outside takes a server for that opens a connection of its own accord.
source_of_s1() {
  beside client socat -T 20 TCP-LISTEN:8000,reuseaddr SYSTEM:'echo $SOCAT_PEERADDR' & local listener=$!
  until_done 20 sh -c 'ip netns exec client ss -Hltn | grep -q :8000'
  on s1 bash -c 'exec 5<>/dev/tcp/192.0.2.50/8000; read -r -t 10 peer <&5; echo "$peer"'
  kill $listener 2>/dev/null
}
source_is() { local peer; peer=$(source_of_s1); [ "$peer" = "$1" ] || { echo "from ${peer:-nobody}"; return 1; }; }
page_status() { [ "$(beside client curl -s -k -m 20 -o /dev/null -w '%{http_code}' "${@:2}" https://192.0.2.1$n:3636/secure/control)" = "$1" ]; }
logged() { on "$1" journalctl --no-pager -o cat -t "$2" | grep -q "$3"; }
after() {
  local n
  case $1 in
    *"apt install ./piranha"*)
      for n in 1 2; do
        check "nothing is enabled or started on d$n" service_is d$n pulse "disabled inactive"
        check "the sample does nothing on d$n" not on d$n piranhactl check
      done;;
    *"systemctl restart nftables"*)
      for n in 1 2; do
        check "the rules are loaded on d$n" rules_loaded d$n
        case $1 in *firewalld*) check "firewalld is off on d$n" service_is d$n firewalld "disabled inactive";; esac
      done
      check "they are at their place" on d1 cmp /root/piranha.nft /etc/nftables.conf
      case $1 in *rhel*|*sysconfig*) check "and at the other" on d1 cmp /root/piranha.nft /etc/sysconfig/nftables.conf;; esac;;
    *"systemctl start pulse"*)
      check "d1 serves" until_done 60 has_address d1 192.0.2.100
      check "d2 does not" not has_address d2 192.0.2.100
      check "it is enabled" service_is d2 pulse "enabled active"
      check "both servers answer http" until_done 90 both_answer http://192.0.2.100/
      check "and https" until_done 90 both_answer https://192.0.2.100/
      check "they see the client's address" answers client http://192.0.2.100/ 'for 192.0.2.50$'
      check "what a server sends of its own accord comes from the director" source_is 192.0.2.11
      check "a firewall that drops: no way to another port" not beside client curl -s -m 3 http://192.0.2.11:80/;;
    *"systemctl stop nginx"*)
      check "the server leaves the table" until_done 60 s1_is_out
      check "the other one answers alone" only_s2;;
    *"curl -s http://192.0.2.100/"*) check "a server has answered" grep -q '^s[12] for 192.0.2.50$' /run/shown;;
    *"systemctl start piranha-gui"*)
      for n in 1 2; do
        check "the page of d$n asks for a password" until_done 60 page_status 401
        check "and takes it" until_done 60 page_status 200 -u 'piranha:very secret'
      done;;
    *"piranhactl reload"*)
      for n in 1 2; do check "d$n has read the file anew" until_done 60 logged d$n pulse "configuration 2 is in force"; done;;
  esac
}

# ---- The page.
blocks=/run/blocks
doc_blocks $PAGE $blocks || exit 1
machines() {
  case $1 in director) echo d1 d2;; server) echo s1 s2;; d1|d2|s1|s2|client) echo "$1";; *) return 1;; esac
}
# What commands of a block ask, as an operator would type it.
typed() { if grep -q '^piranha-passwd$' "$1"; then printf 'very secret\nvery secret\n'; fi; }
run() { typed "$2" | if [ "$1" = client ]; then beside client bash -eu -c "$(cat "$2")"; else on "$1" bash -eu -c "$(cat "$2")"; fi; }
run_showing() { run "$1" "$2" >/run/shown 2>&1 && shows "$3" /run/shown; }
# The steps build on each other: the first that fails is the last.
not_so() { echo "NOT OK  $1"; sed 's/^/        /' /run/shown; journals d1 d2; exit 1; }

executed=/run/executed; : >$executed
begun=
for info in "$blocks"/*.info; do
  block=${info%.info} where=$PAGE:$(cat "${info%.info}.line")
  kind= who= what= more=; read -r kind who what more <"$info" || true
  case $kind in
    sh)
      list=$(machines "$who") || give_up "$where: there is no machine \"$who\""
      case "$what $more" in
        " "|"debian "|"rhel ") ;;
        "rhel package")
          while IFS= read -r line; do grep -qxF -- "$line" <<<"$NOT_EXECUTED" || give_up "$where: neither executed nor known to this test: $line"; done <"$block.text"
          echo "left    $where: $(paste -sd';' "$block.text")"; continue;;
        *) give_up "$where: \"$what $more\" is nothing that this test knows";;
      esac
      cat "$block.text" >>$executed
      # The change that the page speaks of.
      if grep -q '^piranhactl reload$' "$block.text"; then
        for n in 1 2; do on d$n sed -i 's/^serial_no = 1$/serial_no = 2/' /etc/sysconfig/ha/lvs.cf; done
      fi
      wanted=; next=$(printf '%s/%03d' $blocks $((10#${block##*/} + 1)))
      [ "$(cat "$next.info" 2>/dev/null)" != text ] || wanted=$next.text
      title=$(head -1 "$block.text"); [ "$(wc -l <"$block.text")" -eq 1 ] || title="$title …"
      for name in $list; do
        run "$name" "$block.text" >/run/shown 2>&1 || not_so "$where: $name: $title"
        # What is shown may take its time.
        if [ -n "$wanted" ] && ! shows "$wanted" /run/shown >/dev/null; then
          until_done 120 run_showing "$name" "$block.text" "$wanted" >/dev/null ||
            not_so "$where: $name: $title: $(shows "$wanted" /run/shown)"
        fi
        echo "ok      $where: $name: $title"
      done
      after "$(cat "$block.text")"
      begun=1;;
    text) [ -n "$begun" ] || give_up "$where: nothing shows this";;
    "") while IFS= read -r line; do
          ! type -P -- "${line%% *}" >/dev/null || give_up "$where: a command that is not executed: $line"
        done <"$block.text";;
    *) give_up "$where: a block of the kind \"$kind\"";;
  esac
done
kill -KILL "${LEADER[d1]}"
check "a director that dies: the partner has its addresses" until_done 60 has_address d2 192.0.2.100
check "and serves" until_done 60 answers client http://192.0.2.100/ 's[12] for'
# Commands within the text.
doc_spans $PAGE | while IFS= read -r span; do grep -qF -- "$span" $executed || echo "$span"; done >/run/unexecuted
check "every command within the text has been executed" sh -c 'cat /run/unexecuted; ! test -s /run/unexecuted'
if [ $failed = 0 ]; then echo "# all is well ($SECONDS s)"; else journals d2; fi
exit $failed
