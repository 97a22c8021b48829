#!/bin/bash
# The RPM in a directory with a small system: over an original piranha-0.8.6, upgraded, back to the original, removed;
# where init scripts are what starts services, and where systemd does. What scriptlets call is recorded, not done.
#
#   package-rpm-check.sh DEBIAN PACKAGE NEWER-PACKAGE      DEBIAN: a directory with one, which is copied
set -u
. "$(dirname "$0")/check-functions.sh"
debian=$1 package=$2 newer=$3 data=$(readlink -f "$(dirname "$0")")
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
root=$work/root
HA=$root/etc/sysconfig/ha
more() { cat "$root/calls" "$work/rpm.log" 2>/dev/null | grep -v '^rpm: '; }

# Of an empty database nothing can be required.
rpm_() { rpm --root "$root" --nodeps "$@" >"$work/rpm.log" 2>&1 || { cat "$work/rpm.log"; return 1; }; }
installed() { rpm --root "$root" -q --qf '%{VERSION}\n' piranha; }
version() { rpm -qp --qf '%{VERSION}' "$1"; }
# What was called since the last time.
calls() { cat "$root/calls" 2>/dev/null; rm -f "$root/calls"; }
# In the numbers of the root, not of this machine.
owner_in() { chroot "$root" stat -c '%U:%G %a' "${1#"$root"}"; }
absent() { local path; for path; do [ ! -e "$path" ] && [ ! -L "$path" ] || { echo "$path is there"; return 1; }; done; }
unchanged() { sha256sum --quiet -c "$work/sums"; }
# Everything is as the package has it, but for the settings named.
verified() {
  local said
  said=$(rpm --root "$root" -V --nodeps piranha | awk '{print $NF}' | sort | tr '\n' ' ')
  is "${said% }" "$*"
}

# ---- What both kinds of systems have: fakes that write down how they are called.
fake() {
  mkdir -p "$(dirname "$1")"; rm -f "$1"
  cat >"$1"; chmod 755 "$1"
}
fakes() {
  rm -f "$root"/usr/bin/systemctl "$root"/usr/sbin/{service,chkconfig}
  case $1 in
    sysv)
      fake "$root/usr/sbin/chkconfig" <<<$'#!/bin/sh\necho "chkconfig $*" >>/calls'
      fake "$root/usr/sbin/service" <<'S'
#!/bin/sh
# Of which package the script is, and the program.
script=old program=old
grep -q init-functions "/etc/rc.d/init.d/$1" && script=new
[ "$(head -c 8 /usr/sbin/pulse)" = original ] || program=new
echo "service $* ($script script, $program program)" >>/calls
S
      ;;
    systemd) fake "$root/usr/bin/systemctl" <<<$'#!/bin/sh\necho "systemctl $*" >>/calls';;
  esac
}

cp -a "$debian" "$root"
# Where a link of it leads is never followed: it would lead into this machine.
mkdir -p "$root/etc/rc.d/init.d" "$root/var/lib/rpm"
rm -rf "$root/etc/init.d"; ln -s rc.d/init.d "$root/etc/init.d"
rpm --root "$root" --initdb
# On the systems of the original, 60 was free.
cp "$root"/etc/{passwd,group,gshadow,shadow} "$work/"
sed -i '/^games:/d' "$root"/etc/{passwd,group,gshadow,shadow}

# ---- An original, as far as a package sees it.
mkdir -p "$work/old"
cat >"$work/old.spec" <<'SPEC'
%global __os_install_post %{nil}
%global debug_package %{nil}
%global _binary_payload w9.gzdio
Name: piranha
Version: 0.8.6
Release: 4.el6
Summary: stands for the original
License: none
Group: none
AutoReqProv: no
%description
Files and scriptlets where the original had some.
%install
cd "%{buildroot}"
mkdir -p usr/sbin etc/rc.d/init.d etc/sysconfig/ha/conf etc/sysconfig/ha/web etc/logrotate.d usr/share/man/man8 usr/share/man/man5 var/log/piranha
for p in pulse lvsd nanny fos send_arp piranha_gui piranha-passwd; do echo original >usr/sbin/$p; chmod 755 usr/sbin/$p; done
for s in pulse piranha-gui; do echo "# original" >etc/rc.d/init.d/$s; chmod 755 etc/rc.d/init.d/$s; done
for f in etc/sysconfig/ha/lvs.cf etc/sysconfig/ha/conf/httpd.conf etc/sysconfig/ha/conf/piranha.passwd etc/sysconfig/pulse \
  etc/sysconfig/ha/web/control.php etc/logrotate.d/piranha usr/share/man/man8/pulse.8.gz usr/share/man/man5/lvs.cf.5.gz; do echo original >$f; done
ln -s /var/log/piranha etc/sysconfig/ha/logs
ln -s /usr/lib64/httpd/modules etc/sysconfig/ha/modules
%pre
echo "original pre $1" >>/calls
getent group piranha >/dev/null || groupadd -g 60 -r piranha
getent passwd piranha >/dev/null || useradd -u 60 -g 60 -r -M -d /etc/sysconfig/ha -s /sbin/nologin piranha
%post
echo "original post $1" >>/calls
/sbin/chkconfig --add pulse
/sbin/chkconfig --add piranha-gui
%preun
echo "original preun $1" >>/calls
if [ $1 = 0 ]; then
    for s in pulse piranha-gui; do /sbin/service $s stop; /sbin/chkconfig --del $s; done
fi
%postun
echo "original postun $1" >>/calls
[ $1 = 0 ] || /sbin/service pulse condrestart
%files
%defattr(-,root,root)
/usr/sbin/*
/etc/rc.d/init.d/*
%dir /etc/sysconfig/ha
%config(noreplace) /etc/sysconfig/ha/conf
/etc/sysconfig/ha/web
/etc/sysconfig/ha/logs
/etc/sysconfig/ha/modules
%attr(0664,root,piranha) %config(noreplace) /etc/sysconfig/ha/lvs.cf
%config(noreplace) /etc/sysconfig/pulse
%config(noreplace) /etc/logrotate.d/piranha
/usr/share/man/man*/*
%dir /var/log/piranha
SPEC
rpmbuild -bb --quiet --target x86_64 --define "_topdir $work/old" --define "_rpmdir $work" "$work/old.spec" >"$work/old.log" 2>&1 ||
  { cat "$work/old.log" >&2; exit 1; }
original=$work/x86_64/piranha-0.8.6-4.el6.x86_64.rpm

echo "# the package"
requires=$(rpm -qp --requires "$package" | sort -u)
check "it needs nothing of rpm that el6's has not" is "$(grep '^rpmlib' <<<"$requires")" \
  $'rpmlib(CompressedFileNames) <= 3.0.4-1\nrpmlib(FileDigests) <= 4.6.0-1\nrpmlib(PayloadFilesHavePrefix) <= 4.0-1'
check "its payload and digests are of that time" is "$(rpm -qp --qf '%{PAYLOADFORMAT} %{PAYLOADCOMPRESSOR} %{FILEDIGESTALGO}' "$package")" "cpio gzip 8"
check "of others it needs the C library, a shell, and what makes a user" is "$(grep -vE '^rpmlib|^rtld\(GNU_HASH\)$|^config\(piranha\) = |^(libc|libm|libpthread|libdl|librt|ld-linux-x86-64)\.so\.[0-9]' <<<"$requires" | tr '\n' ' ')" \
  "/bin/sh /usr/bin/getent /usr/sbin/groupadd /usr/sbin/useradd "
check "of a C library as old as el6's" is "$(grep -o 'GLIBC_[0-9.]*' <<<"$requires" | sort -uV | tail -1 | sed -E 's/GLIBC_2\.([0-9]|1[0-2])(\..*)?$/old/')" old
check "of weak dependencies, which el6 does not know, it has none" is "$(rpm -qp --recommends --suggests --supplements --enhances "$package")" ""

echo "# init scripts: over the original"
fakes sysv
check "the original is there" rpm_ -i "$original"
check "its user is number 60" is "$(chroot "$root" id piranha)" "uid=60(piranha) gid=60(piranha) groups=60(piranha)"
calls >/dev/null
cp "$data/site.cf" "$HA/lvs.cf"; cp "$data/lvs-check-https.sh" "$HA/"
echo "piranha:secret" >"$HA/conf/piranha.passwd"; chown 60:60 "$HA/conf/piranha.passwd"; chmod 644 "$HA/conf/piranha.passwd"
echo "changed" >>"$HA/conf/httpd.conf"
echo 'OPTIONS="--verbose"' >"$root/etc/sysconfig/pulse"
mkdir -p "$root/run/lock/subsys"; : >"$root/run/lock/subsys/piranha-gui"
sha256sum "$HA"/{lvs.cf,lvs-check-https.sh,conf/piranha.passwd} "$root/etc/sysconfig/pulse" >"$work/sums"
check "upgrade" rpm_ -U "$package"
check "the version is right" is "$(installed)" "$(version "$package")"
check "the httpd of the page ends, the new scripts are known, pulse is restarted by the new one, the page starts" is "$(calls)" \
"service piranha-gui stop (old script, old program)
chkconfig --add pulse
chkconfig --add piranha-gui
original preun 1
original postun 1
service pulse condrestart (new script, new program)
service piranha-gui start (new script, new program)"
check "the operator's files are as they were" unchanged
check "beside his settings are the new ones" test -e "$root/etc/sysconfig/pulse.rpmnew"
check "the original's page is gone" absent "$HA"/{web,logs,modules,conf/httpd.conf}
check "what was changed of it is kept" test -e "$HA/conf/httpd.conf.rpmsave"
check "rights" is "$(for f in "$HA" "$HA/conf" "$HA/lvs.cf" "$HA/conf/piranha.passwd" "$root"/var/lib/piranha{,/history} "$root/var/log/piranha"; do owner_in "$f"; done)" \
"root:piranha 775
root:piranha 775
root:piranha 664
piranha:piranha 600
piranha:piranha 755
piranha:piranha 2770
piranha:piranha 750"
check "the user is as it was" is "$(chroot "$root" id piranha)" "uid=60(piranha) gid=60(piranha) groups=60(piranha)"
check "the init scripts can be run" is "$(owner_in "$root/etc/init.d/pulse") $(owner_in "$root/etc/init.d/piranha-gui")" "root:root 755 root:root 755"
check "they say themselves to chkconfig" grep -q '^# chkconfig: - 60 10$' "$root/etc/init.d/pulse"
check "with LSB's runlevels chkconfig would enable them" is "$(sed -n 's/^# Default-Start: *//p' "$root"/etc/init.d/{pulse,piranha-gui})" ""
check "nothing else differs from the package" verified /etc/sysconfig/ha/lvs.cf /etc/sysconfig/pulse
check "nothing is left of the upgrade" absent "$root/run/piranha-upgrade"

echo "# init scripts: a newer one"
check "upgrade" rpm_ -U "$newer"
check "the version is right" is "$(installed)" "$(version "$newer")"
check "both services are restarted if they run" is "$(calls)" \
"chkconfig --add pulse
chkconfig --add piranha-gui
service pulse condrestart (new script, new program)
service piranha-gui condrestart (new script, new program)"
check "the operator's files are as they were" unchanged
check "rights he has given stay" sh -c "chmod 640 '$HA/lvs.cf'; rpm --root '$root' --nodeps -U --oldpackage '$package'; [ \"\$(stat -c %a '$HA/lvs.cf')\" = 640 ]"
calls >/dev/null; chmod 664 "$HA/lvs.cf"

echo "# init scripts: back to the original, and on again"
check "back" rpm_ -U --oldpackage "$original"
check "pulse is restarted, as the original" is "$(calls)" \
"original pre 2
original post 2
chkconfig --add pulse
chkconfig --add piranha-gui
service pulse condrestart (old script, old program)
service piranha-gui condrestart (old script, old program)"
check "its version is there" is "$(installed)" 0.8.6
check "its page too" test -e "$HA/web/control.php"
check "the operator's files are as they were" unchanged
rm -f "$root/run/lock/subsys/piranha-gui"
check "on" rpm_ -U "$package"
check "a page that did not run is not started" not grep -q piranha-gui <(calls | grep service)
check "the operator's files are as they were" unchanged

echo "# init scripts: removed"
check "remove" rpm_ -e piranha
check "both services are stopped and forgotten" is "$(calls)" \
"service piranha-gui stop (new script, new program)
chkconfig --del piranha-gui
service pulse stop (new script, new program)
chkconfig --del pulse"
check "programs and scripts are gone" absent "$root"/usr/sbin/{pulse,lvs-check-https} "$root/etc/init.d/pulse" "$root/usr/share/piranha" "$root/usr/share/doc/piranha"
check "the operator's lvs.cf is kept" cmp "$data/site.cf" "$HA/lvs.cf.rpmsave"
check "his check script too" cmp "$data/lvs-check-https.sh" "$HA/lvs-check-https.sh"
check "the passwords too" is "$(cat "$HA/conf/piranha.passwd")" piranha:secret
check "the user stays" chroot "$root" getent passwd piranha

echo "# systemd: a directory that was copied here first"
fakes systemd
rm -rf "$HA" "$root"/etc/sysconfig/pulse*; cp "$work"/{passwd,group,gshadow,shadow} "$root/etc/"
mkdir -p "$HA/conf"
cp "$data/site.cf" "$HA/lvs.cf"; echo "piranha:secret" >"$HA/conf/piranha.passwd"
chown -R root:60 "$HA"; chown 60 "$HA/conf/piranha.passwd"; chmod 640 "$HA/lvs.cf"
sha256sum "$HA"/{lvs.cf,conf/piranha.passwd} >"$work/sums"
check "install" rpm_ -i "$package"
check "systemd is told, and nothing enabled or started" is "$(calls)" "systemctl --system daemon-reload"
check "60 is another group: the user has another number" is "$(chroot "$root" id -gn piranha) $(chroot "$root" getent group 60 | cut -d: -f1)" "piranha games"
check "the operator's files are as they were" unchanged
check "rights" is "$(owner_in "$HA/lvs.cf") $(owner_in "$HA/conf/piranha.passwd") $(owner_in "$HA")" "root:piranha 660 piranha:piranha 600 root:piranha 775"
check "the sample is beside" test -e "$HA/lvs.cf.rpmnew"
check "upgrade" rpm_ -U "$newer"
check "what runs is restarted, after systemd knows the new units" is "$(calls)" \
"systemctl --system daemon-reload
systemctl --system daemon-reload
systemctl try-restart pulse.service
systemctl try-restart piranha-gui.service"
check "remove" rpm_ -e piranha
check "both are disabled and stopped" is "$(calls)" \
"systemctl --no-reload disable piranha-gui.service
systemctl stop piranha-gui.service
systemctl --no-reload disable pulse.service
systemctl stop pulse.service
systemctl --system daemon-reload"
check "the operator's lvs.cf is kept" cmp "$data/site.cf" "$HA/lvs.cf.rpmsave"

echo "# on a machine that has nothing"
rm -rf "$HA"
check "install" rpm_ -i "$package"
check "lvs.cf is the sample" is "$(owner_in "$HA/lvs.cf")" "root:piranha 664"
check "everything is as the package has it" verified
calls >/dev/null
check "remove" rpm_ -e piranha
check "nothing is left" absent "$HA" "$root"/var/lib/piranha "$root"/var/log/piranha "$root"/usr/sbin/pulse "$root"/etc/sysconfig/pulse
finish
