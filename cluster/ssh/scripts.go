package ssh

import "strings"

// The scripts that run on hosts. They are of one line in the end, since some login shells want
// that, and ask for nothing but POSIX's shell, coreutils (or busybox) and tar.

// line makes one line of a script.
func line(script string) string { return strings.Join(strings.Fields(script), " ") }

// hostedDir is where clusters are on a host, below the user's home. In base $1 is the cluster's
// name, $2 the host's: homes may be shared.
const (
	hostedDir = ".local/state/navvy-hosted"
	base      = `b="$HOME/` + hostedDir + `"; d="$b/$1/$2"; `
)

// lookScript tells what there is: $3 is the mark, $4 the sum of the program: one
// that is another is not asked.
var lookScript = line(base + `
echo "dir $d"; echo "system $(uname -sm)";
for n in HOME USER LOGNAME PATH LANG LC_ALL TMPDIR TZ; do eval v=\$$n; [ -z "$v" ] || printf "env %s %s\n" "$n" "$v"; done;
[ -d "$d" ] || exit 0; echo there; cd "$d" || exit 1;
echo "whose $(cat cluster 2>/dev/null)"; [ "$(cat cluster 2>/dev/null)" = "$3" ] || exit 0;
for w in workers/*; do [ -d "$w" ] || continue; n=${w#workers/}; echo "worker $n";
  for f in ca.crt worker.crt; do [ -f "$w/identity/$f" ] && sed "s/^/pem $n $f /" "$w/identity/$f"; done; done;
for f in secrets/*.token; do [ -f "$f" ] && n=${f#secrets/} && echo "token ${n%.token}"; done;
for f in files/*; do [ -d "$f" ] && echo "files ${f#files/}"; done;
for f in units/log/*.log; do [ -f "$f" ] && n=${f#units/log/} && tail -n 1 "$f" | cut -c 1-500 | sed "s/^/log ${n%.log} /"; done;
s=; [ -f navvy ] && s=$(sha256sum < navvy) && s=${s%% *}; echo "sum $s";
[ "$4" = "$s" ] || exit 0;
echo units; [ -d units ] || exit 0; exec ./navvy cluster unit list "$d/units"`)

// claimScript makes the cluster's directory: $3 is the mark. It ends with 9 if the directory is
// somebody else's, and says why. Of several that come at once one has it: a link is made if there
// is nothing of its name.
var claimScript = line("umask 077; " + base + `
mkdir -p "$d" && cd "$d" || exit 1;
if [ ! -f cluster ]; then o=$(ls -A | grep -v "^[.]new-" | head -n 1); t=.new-mark-$$;
  if [ -n "$o" ] && [ ! -f cluster ]; then echo "it has $o in it, and no mark"; exit 9; fi;
  printf "%s\n" "$3" > $t || exit 1; e=$(ln $t cluster 2>&1) || [ -f cluster ] || { echo "$e" >&2; rm -f $t; exit 1; }; rm -f $t; fi;
if [ "$(cat cluster)" != "$3" ]; then cat cluster; exit 9; fi;
rm -rf .new-*; mkdir -p workers secrets files`)

// fileScript puts a file in the place of another one, whole: $1 is the directory, $2 the name
// below it, $3 its mode. Its sum is the first line of the input, since all may see arguments,
// and somebody who can guess a secret could check that.
var fileScript = line(`umask 077; cd "$1" || exit 1; t=.new-file-$$; read -r w || exit 1;
cat > "$t" && s=$(sha256sum < "$t") && s=${s%% *} || { rm -f "$t"; exit 1; };
if [ "$s" != "$w" ]; then rm -f "$t"; echo "$2 has arrived damaged" >&2; exit 1; fi;
chmod "$3" "$t" && mv -f "$t" "$2"`)

// treeScript unpacks what a service finds: $1 is the directory, $2 the name of the tree.
var treeScript = line(`umask 022; cd "$1" || exit 1; t=.new-tree-$$; mkdir -m 755 "$t" && tar -xzf - -C "$t" || { rm -rf "$t"; exit 1; };
[ -d "files/$2" ] && rm -rf "$t" || mv "$t" "files/$2"`)

// dropTreesScript removes the trees of $1 that are not named after it.
var dropTreesScript = line(`cd "$1/files" || exit 0; shift; for f in *; do [ -d "$f" ] || continue; k=;
for u in "$@"; do [ "$u" = "$f" ] && k=1; done; [ -n "$k" ] || { [ -L "$f" ] || chmod -R u+w "$f"; rm -rf "$f"; }; done`)

// forgetScript removes what a worker has: $1 is the directory, $2 the worker.
var forgetScript = line(`cd "$1" || exit 0; [ -d "workers/$2" ] && [ ! -L "workers/$2" ] && chmod -R u+w "workers/$2"; rm -rf "workers/$2" "secrets/$2."*`)

// strangerScript removes what a worker has joined with: $1 is the directory, $2 the worker.
var strangerScript = line(`cd "$1" && rm -rf "workers/$2/identity"`)

// clearScript removes a cluster's directory, the mark $3 last; nothing of somebody else's.
var clearScript = line(base + `
if [ -d "$d" ]; then cd "$d" || exit 1; if [ -f cluster ]; then [ "$(cat cluster)" = "$3" ] || exit 0;
  for f in * .[!.]* ..?*; do [ "$f" = cluster ] && continue; f="./$f"; [ -e "$f" ] || [ -L "$f" ] || continue;
    [ -d "$f" ] && [ ! -L "$f" ] && chmod -R u+w "$f"; rm -rf "$f" || exit 1; done;
  rm -f cluster; fi; fi;
cd "$b" 2>/dev/null || exit 0; rmdir "$1/$2" 2>/dev/null; rmdir "$1" 2>/dev/null; cd ..; rmdir navvy-hosted 2>/dev/null; exit 0`)

// sshdScript tells which process keeps the connection, and since when, so that one whose other
// end is gone can be ended; endScript ends it, $1 and $2 are what was told.
var (
	sshdScript = line(`[ -r "/proc/$PPID/stat" ] && echo "$PPID $(cut -d" " -f 22 "/proc/$PPID/stat")"`)
	endScript  = line(`[ "$(cut -d" " -f 22 "/proc/$1/stat" 2>/dev/null)" = "$2" ] && case "$(cat "/proc/$1/comm")" in sshd*) kill "$1";; esac; exit 0`)
)
