# Sourced by the check scripts here that run in a guest or about a directory: a line for each check, and
# what is needed to know more when one fails.
export SYSTEMD_PAGER= SYSTEMD_COLORS=0
failed=0

# check TEXT COMMAND... : says whether the command succeeded. When not, "more" may tell what else is known.
check() {
  local text=$1; shift
  if "$@" >/tmp/said 2>&1; then
    echo "ok      $text"
  else
    failed=1
    echo "NOT OK  $text: $*"; { cat /tmp/said; more; } | sed 's/^/        /'
  fi
}
more() { journalctl --no-pager -n 40 -u pulse -u piranha-gui; }
finish() {
  [ $failed != 0 ] || echo "# all is well"
  exit $failed
}
# eventually COMMAND... : until it succeeds, for 30 s. What it says in the end is said.
eventually() {
  local end=$((SECONDS + 30))
  until "$@" >/tmp/tried 2>&1; do [ $SECONDS -lt $end ] || { cat /tmp/tried; return 1; }; sleep 0.05; done
}
not() { ! "$@"; }
is() { [ "$1" = "$2" ] || { echo "'$1', not '$2'"; return 1; }; }
owner() { stat -c '%U:%G %a' "$1"; }

# Of a director. VIP and GATEWAY are its virtual addresses.
show() { systemctl show -P "$1" "${2:-pulse}"; }
has_address() { ip -oneline -4 addr | grep -q " $1/"; }
logged() { journalctl --no-pager -o cat -t "$1" | grep -qF "$2"; }
nothing_runs() { not pgrep -l 'pulse|lvsd|nanny'; }
is_new() { local pid; pid=$(show MainPID "${2:-pulse}"); [ "$pid" != 0 ] && [ "$pid" != "$1" ]; }
serves() { has_address $VIP && has_address $GATEWAY && ipvsadm -Ln | grep -q "TCP  $VIP:80"; }
gone() { not has_address $VIP && not has_address $GATEWAY && [ -z "$(ipvsadm -Sn)" ] || { ip -br addr; ipvsadm -Sn; return 1; }; }

# answers PATH STATUS [HEADER] : what the page says to a request.
answers() {
  local status
  exec 5<>/dev/tcp/127.0.0.1/3636 || return 1
  printf 'GET %s HTTP/1.0\r\n%s\r\n' "$1" "${3:+$3$'\r\n'}" >&5
  read -r _ status _ <&5; cat <&5 >/tmp/page
  exec 5>&-
  is "$status" "$2"
}
