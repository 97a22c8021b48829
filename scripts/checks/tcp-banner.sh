#!/bin/bash
# A check program in a few lines: the server must greet as it should.
#
#   send_program = "/etc/sysconfig/ha/tcp-banner.sh %h %p SSH-2.0-"
#   expect = "OK"
#
# What nanny gives: %h is the server's address, %p its port, each a word of its own; further words are
# as you write them, but split at blanks. There is no shell around this line: quotes, $ and | mean
# nothing in it. Standard input and standard error are /dev/null, the directory is not yours.
#
# What nanny wants: exactly what stands in "expect" on standard output, and nothing else there. It takes
# the server out at any other output, and when "timeout" of the block is over.
host=$1 port=$2 banner=$3

# One way to say no, so that none is forgotten. The reason is for whoever runs this by hand.
fail() { echo FAIL; echo "${0##*/}: $host:$port: $*" >&2; exit 1; }

[ $# = 3 ] || { echo "usage: ${0##*/} HOST PORT BANNER" >&2; exit 2; }

# Each wait has a limit, all together below "timeout": a check that is killed has no reason to tell.
# The connection is made by bash itself (hence its name in the first line), in a process of its own,
# since it cannot be given a time limit; it ends when it has read as much as is wanted.
got=$(timeout 4 bash -c '
  exec 3<>"/dev/tcp/$1/$2" || exit 1
  LC_ALL=C IFS= read -r -N "$3" text <&3
  printf %s "$text"
' connect "$host" "$port" "${#banner}" 2>/dev/null) || fail "no connection, or no answer within 4 s"

# Compare as text: in [[ == ]] a * from outside would be a pattern, were it not for the quotes.
[[ $got == "$banner" ]] || fail "greets with '$got'"
echo OK
