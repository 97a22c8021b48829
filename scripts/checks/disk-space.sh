#!/bin/sh
# A check that looks behind the port: a server whose disk is full still answers, but should not serve.
#
#   send_program = "/etc/sysconfig/ha/disk-space.sh %h"
#   expect = "OK"
#   timeout = 30
#   quiesce_server = 1
#
# The server tells its free space itself, on a page that cron writes there every minute:
#
#   * * * * * df -P /srv | awk 'NR == 2 { print "free-percent", 100 - $5 }' >/var/www/html/disk.txt
#
# Full disks come slowly and all at once: with quiesce_server the connections that exist are kept. If all
# servers may fill up together, think of a sorry_server before they leave together.
#
# This one is for any /bin/sh: "=" and not "==" in [ ], no [[ ]], no arrays.
host=$1
least=${2:-5}     # percent; another limit is a word behind %h

fail() { echo FAIL; echo "${0##*/}: $host: $*" >&2; exit 1; }

[ -n "$host" ] || { echo "usage: ${0##*/} HOST[:PORT] [PERCENT]" >&2; exit 2; }

# -f: an error page is no answer. --max-time: less than "timeout". --noproxy: ask the server itself.
page=$(curl -fsS --noproxy '*' --max-time 5 "http://$host/disk.txt" 2>/dev/null) ||
  fail "there is no page disk.txt"

# What comes from outside is looked at before it is counted with: "free-percent" and one number.
free=${page#free-percent }
case $free in
  "$page"|''|*[!0-9]*|????*) fail "disk.txt says '$page'" ;;
esac
[ "$free" -ge "$least" ] || fail "$free % free, fewer than $least"
echo OK
