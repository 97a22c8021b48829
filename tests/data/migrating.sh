#!/bin/bash
# The files of docs/migrating-from-others.md: ours pass "piranhactl check" and mean the same IPVS table as the others;
# keepalived's passes "keepalived -t".
#
#   tests/data/migrating.sh
#
# With the debug programs of the target directory. ldirectord itself is not asked; its table is read from its file.
set -eu
cd "$(dirname "$(readlink -f "$0")")/../.."
PAGE=docs/migrating-from-others.md
. scripts/lib-apt.sh
. scripts/lib-cargo.sh
. scripts/lib-docs.sh
ensure_program keepalived keepalived:keepalived
programs=$(target_directory)/debug
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
failed=0
check() {
  local text=$1; shift
  if "$@" >"$work/said" 2>&1; then echo "ok      $text"; else failed=1; echo "NOT OK  $text: $*"; sed 's/^/        /' "$work/said"; fi
}
nothing_found() { "$programs/piranhactl" check -c "$1" >"$work/found" && cat "$work/found" && grep -q 'no errors, no warnings' "$work/found"; }

doc_file $PAGE keepalived.conf >"$work/keepalived.conf"
doc_file $PAGE ldirectord.cf >"$work/ldirectord.cf"
for name in keepalived ldirectord; do
  doc_file $PAGE "lvs.cf $name" >"$work/$name-lvs.cf"
  check "nothing is to be said against the lvs.cf for $name" nothing_found "$work/$name-lvs.cf"
done
# It wants the interfaces and scripts that the file names.
in_guest='ip link add eth0 type veth peer name eth1
  install -m 755 /dev/null /usr/local/sbin/tell-us
  keepalived -t -f "$1"'
check "keepalived takes its file" scripts/ipvs-vm -- bash -euc "$in_guest" keepalived-check "$work/keepalived.conf"

# The tables: a line for each service and each server, of either file.
ours() {
  "$programs/lvsd" --test-start -c "$1" | tr -d '"' | awk '
    / -A / { for (i = 1; i < NF; i++) { if ($i == "-t") service = $(i + 1); if ($i == "-s") scheduler = $(i + 1); if ($i == "-p") kept = $(i + 1) }
             print service, scheduler, kept + 0; kept = 0 }
    / -h / && / -V / { for (i = 1; i < NF; i++) value[$i] = $(i + 1)
             print value["-V"] ":" value["-p"], value["-h"] ":" value["-r"], value["-w"], value["-M"] }' | sort
}
keepaliveds() {
  awk '$1 == "virtual_server" { service = $2 ":" $3; kept = 0 }
    $1 == "lvs_sched" { scheduler = $2 } $1 == "persistence_timeout" { kept = $2 }
    $1 == "lvs_method" { method = $2 == "NAT" ? "m" : $2 == "DR" ? "g" : "i" }
    $1 == "real_server" { if (!told[service]++) print service, scheduler, kept; server = $2 ":" $3 }
    $1 == "weight" { print service, server, $2, method }' "$1" | sort
}
ldirectords() {
  awk '$1 == "virtual" { tell(); service = $3; kept = 0 }
    $1 == "real" { print service, $3, $5 == "" ? 1 : $5, $4 == "masq" ? "m" : $4 == "gate" ? "g" : "i" }
    $1 == "scheduler" { scheduler = $3 } $1 == "persistent" { kept = $3 }
    function tell() { if (service != "") print service, scheduler, kept }
    END { tell() }' "$1" | sort
}
ours "$work/keepalived-lvs.cf" >"$work/ours"; keepaliveds "$work/keepalived.conf" >"$work/theirs"
check "the same table as keepalived's: $(wc -l <"$work/theirs") lines" diff "$work/ours" "$work/theirs"
ours "$work/ldirectord-lvs.cf" >"$work/ours"; ldirectords "$work/ldirectord.cf" >"$work/theirs"
check "the same table as ldirectord's: $(wc -l <"$work/theirs") lines" diff "$work/ours" "$work/theirs"
check "there is one" test "$(wc -l <"$work/ours")" = 6
exit $failed
