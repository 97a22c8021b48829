# Sourced by the tests that do what pages of docs/ say.
#
# A page's fenced blocks say after the three backticks what they are:
#
#   sh WORDS      commands; WORDS say on which machines, and what else a test must know
#   text          what the block before shows, loosely, see "shows"
#   WORD NAME...  a file, in full or a sample
#   (nothing)     a picture, or an example that is not part of the way; no commands

# doc_blocks PAGE DIRECTORY : the page's blocks, in their order, as the files DIRECTORY/NNN.info (what
# stands after the backticks), NNN.line (where) and NNN.text. A block in a list loses its indentation.
doc_blocks() {
  mkdir -p "$2"
  awk -v directory="$2" '
    /^ *```/ && !inside {
      inside = 1; match($0, /^ */); indent = RLENGTH; info = $0; sub(/^ *```/, "", info)
      name = sprintf("%s/%03d", directory, ++n)
      print info >(name ".info"); print NR >(name ".line"); printf "" >(name ".text")
      next
    }
    /^ *```$/ { inside = 0; close(name ".text"); close(name ".info"); close(name ".line"); next }
    inside { print substr($0, indent + 1) >(name ".text") }
    END { if (inside) { print FILENAME ": a block is not closed" >"/dev/stderr"; exit 1 } }' "$1"
}

# doc_file PAGE INFO : the text of the one block that has this after its backticks.
doc_file() {
  awk -v info="$2" '
    /^```/ && !inside { inside = 1; wanted = substr($0, 4) == info; found += wanted; next }
    /^```$/ { inside = 0; next }
    inside && wanted
    END { if (found != 1) { print FILENAME ": " found + 0 " blocks \"" info "\", not one" >"/dev/stderr"; exit 1 } }' "$1"
}

# shows WANTED SHOWN : whether the lines of the file WANTED stand in the file SHOWN, in their order; others
# may stand between and before and behind. Blanks count as one, "…" stands for anything.
shows() {
  local want line pattern found
  exec 7<"$2"
  while IFS= read -r want; do
    read -r -a words <<<"$want"
    [ ${#words[@]} -gt 0 ] || continue
    pattern=$(sed 's/[][*?\\()|!@+]/\\&/g; s/…/*/g' <<<"${words[*]}") found=
    while IFS= read -r line <&7; do
      read -r -a words <<<"$line"
      # The pattern is one.
      # shellcheck disable=SC2053
      [[ "${words[*]}" != *$pattern* ]] || { found=1; break; }
    done
    [ -n "$found" ] || { echo "not shown, or not in this order: $want"; exec 7<&-; return 1; }
  done <"$1"
  exec 7<&-
}

# doc_spans PAGE : the commands with arguments that stand within the text, a line each: what is in
# backticks outside of blocks and begins with the name of a program, this suite's or another.
doc_spans() {
  local span
  awk '/^ *```/ { inside = !inside; next } !inside' "$1" | grep -o '`[^`]*`' | tr -d '`' | while read -r span; do
    case $span in
      scripts/*) ;;
      pulse\ *|lvsd\ *|nanny\ *|fos\ *|send_arp\ *|piranha*\ *|lvs-check*\ *|dnf\ *|yum\ *|rpm\ *|firewall-cmd\ *|nmcli\ *|service\ *) echo "$span";;
      *\ *) ! type -P -- "${span%% *}" >/dev/null || echo "$span";;
    esac
  done
}

# package_for_docs DIRECTORY : the .deb, made there.
package_for_docs() { scripts/package --output "$1" deb >/dev/null; }
