# Sourced by the scripts here, from the top of the repository, after lib-apt.sh: a browser, and what
# audits pages in it.

# Chromium with its driver; a font, since a machine without any shows empty boxes.
ensure_browser() {
  ensure chromium:chromium chromedriver:chromium-driver \
    /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf:fonts-dejavu-core
}

# axe-core, an audit of accessibility (MPL-2.0), which the tests run in the pages. It is no part of the
# suite: npm fetches it once into the directory of what is built. Sets PIRANHA_AXE.
AXE_VERSION=4.14
ensure_axe() { # TARGET_DIRECTORY
  export PIRANHA_AXE=$1/axe-core-$AXE_VERSION/axe.min.js
  [ ! -s "$PIRANHA_AXE" ] || return 0
  ensure npm:npm
  echo "${0##*/}: fetching axe-core $AXE_VERSION by npm" >&2
  local work; work=$(mktemp -d) || return 1
  ( cd "$work" && npm pack --silent "axe-core@~$AXE_VERSION.0" >/dev/null </dev/null &&
    tar xzf axe-core-*.tgz package/axe.min.js package/LICENSE ) &&
    mkdir -p "${PIRANHA_AXE%/*}" && mv "$work"/package/* "${PIRANHA_AXE%/*}/"
  local status=$?
  rm -rf "$work"
  [ $status = 0 ] || echo "${0##*/}: npm could not fetch axe-core" >&2
  return $status
}
