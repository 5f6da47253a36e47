"""The shell scripts of file operations: all that runs in the sandbox.

They are POSIX sh and use the utilities of POSIX, besides `base64` and `tar`, and `stat` for lists (GNU's, busybox's or
BSD's). Each script is one command of a request and stands for itself: nothing is kept from one to the next but files.

- Input comes as environment variables, never by stdin, which some runtimes leave open without an end.
- Contents are base64 text in both directions, so no runtime, and no redaction, can alter them unnoticed.
- A script that fails exits non-zero, which keeps the rest of its request from running. The exit code says why
  (`_failures.py`), or else the message that a utility has printed to stderr, in English (`LC_ALL=C`).
- Paths are bytes. They begin with `/` or `./`, so that no utility takes one for an option.

Threads: pure functions.
"""

from typing import List, Sequence, Tuple

from ._failures import (
    DIFFERS,
    IS_A_DIRECTORY,
    IS_ROOT,
    MISSING,
    NEEDS,
    NOT_A_DIRECTORY,
    NOT_A_FILE,
    NOT_EMPTY,
    TOOL_MISSING,
)

#: How many bytes of a file one command prints. Their base64 text is below the MiB for which the real runtime kills it.
PIECE = 720 * 1024

#: How many bytes one environment variable carries: as base64 text they fit in the 128 KiB that Linux allows. Divisible
#: by 3, so that the texts of several variables can be joined.
VARIABLE = 96_000

#: The names of the variables begin with this.
DATA = "RUNTIMEUSE_DATA_"

#: How many characters a script may have before the next one begins; Linux allows 128 KiB.
_LONG = 64 * 1024

_BEGIN = "exec </dev/null;LC_ALL=C;export LC_ALL;unset CDPATH;set -f\n"

_FUNCTIONS = f"""\
die() {{ printf '%s\\n' "$2" >&2; exit "$1"; }}
need() {{ for c; do command -v "$c" >/dev/null 2>&1 || die {TOOL_MISSING} "{NEEDS}$c"; done; }}
gone() {{ ls -ld "$1" >/dev/null || exit {MISSING}; ls -ldL "$1" >/dev/null; exit {MISSING}; }}
"""

#: Sets `p` to what a link leads to, `d` to the directory of `p`, and `t` to the temporary file or directory in it.
_BESIDE = """\
if [ -L "$p" ] && l=$(readlink -f "$p" && echo .); then p=${{l%??}}; fi
d=${{p%/*}} t=${{p%/*}}/{temporary}
"""

#: Sets `t` to the temporary file in a directory for temporary files.
_TEMPORARY = """\
for x in "${{TMPDIR:-/tmp}}" /tmp /var/tmp "$PWD"; do
case $x in /*) ;; *) x=$PWD/$x ;; esac
t=$x/{temporary}
if {found}; then break; fi
done
"""

_DECODER = """f=-d; [ "$(printf QQ== | base64 -d 2>/dev/null)" = A ] || f=-D\n"""

#: Sets `o` to the permissions that are shown by the first word of `ls -l`, as `chmod` takes them.
_PERMISSIONS = """\
m=${1#?} o=
for i in u g o; do
r=${m#???}; b=${m%"$r"}; m=$r; i=$i=
case $b in r*) i=${i}r ;; esac; case $b in ?w*) i=${i}w ;; esac; case $b in ??[xst]) i=${i}x ;; esac
o=$o,$i
done
o=${o#,}
"""

_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+=:,@ ")


def assigned(variable: str, value: bytes) -> str:
    """Returns a statement that sets a variable to any bytes but NUL."""
    if all(byte in _PLAIN for byte in value):
        return f"{variable}='{value.decode('ascii')}'\n"
    escaped = "".join(chr(byte) if byte in _PLAIN else f"\\{byte:03o}" for byte in value)
    # The full stop keeps line breaks at the end of the value.
    return f"{variable}=$(printf '{escaped}.'); {variable}=${{{variable}%.}}\n"


def _script(path: bytes, *parts: str) -> str:
    return "".join([_BEGIN, assigned("p", path), _FUNCTIONS, *parts])


# Reading.

#: The size is on the first line. A short file comes whole, then the checksum of its base64 text. It is read once, by
#: `head` and not by `dd`: files such as those of /proc have no size, and come in short reads.
_FIRST = f"""\
set -- $(ls -ldnL "$p"); printf '%s %s\\n' "$1" "$5"
if [ "$5" -le {PIECE} ]; then
b=$(head -c {PIECE + 1} <"$p" | base64 | tr -d '\\n'); printf '%s\\n' "$b"; printf %s "$b" | cksum
else
dd bs={PIECE} count=1 <"$p" | base64 | tr -d '\\n'
fi
"""


def read_first(path: bytes) -> str:
    """Prints a file's mode and size, and its first piece; of a file with one piece also the checksum of the text."""
    check = f"""\
need base64 tr head dd cksum
[ -e "$p" ] || gone "$p"
[ ! -d "$p" ] || exit {IS_A_DIRECTORY}
[ -f "$p" ] || exit {NOT_A_FILE}
true <"$p" || exit 1
"""
    return _script(path, check, _FIRST)


def read_piece(path: bytes, index: int) -> str:
    """Prints one piece of a file."""
    return _script(path, f"""dd bs={PIECE} skip={index} count=1 <"$p" | base64 | tr -d '\\n'\n""")


def read_checksum(path: bytes) -> str:
    """Prints the checksum and size of a file."""
    return _script(path, 'cksum <"$p"\n')


# Writing.


def prepare(path: bytes, temporary: str, *, directory: bool) -> str:
    """Makes the parents and the temporary file or directory; prints what the next scripts need to know.

    That is the option with which `base64` decodes, and how many bytes a command's arguments and environment may have,
    and how many the environment has; 0 where that is not known.
    """
    if directory:
        check = f"""need base64 cksum tar find\n[ ! -e "$p" ] || [ -d "$p" ] || exit {NOT_A_DIRECTORY}\n"""
        make = '(umask 077 && mkdir "$t" && : >"$t/a")'
    else:
        check = f"""\
need base64 cksum
[ ! -d "$p" ] || exit {IS_A_DIRECTORY}
[ ! -e "$p" ] || [ -f "$p" ] || exit {NOT_A_FILE}
"""
        make = '(umask 077 && : >"$t")'
    rest = f"""\
[ -d "$d/" ] || [ ! -e "$d" ] || exit {NOT_A_DIRECTORY}
[ -d "$d/" ] || mkdir -p "$d/" || exit 1
{make} || {{ s=$?; rm -rf "$t"; exit $s; }}
printf '%s %s %s\\n' "$f" "$(getconf ARG_MAX 2>/dev/null || echo 0)" "$(env | wc -c)"
"""
    return _script(path, _BESIDE.format(temporary=temporary), check, _DECODER, rest)


def append(path: bytes, temporary: str, variables: int, size: int, decode: str, *, directory: bool) -> str:
    """Appends what the variables carry to the temporary file; `size` is its size afterwards.

    `decode` is the option with which `base64` decodes; if it is empty, the script tries which one that is.
    """
    names = [f"{DATA}{index}" for index in range(variables)]
    # One by one, and not inherited by the programs that are started: dash takes a third less time for that.
    values = " ".join(f'printf %s "${name}";' for name in names)
    unset = f"unset {' '.join(names)}"
    into = "$t/a" if directory else "$t"
    append = f"""\
[ -f "{into}" ] || exit {MISSING}
{{ {values} }} | {{ {unset}; base64 {decode or "$f"} >>"{into}"; }} || {{ s=$?; rm -rf "$t"; exit $s; }}
{unset}
set -- $(ls -ldn "{into}"); [ "$5" = {size} ] || {{ rm -rf "$t"; exit {DIFFERS}; }}
"""
    return _script(path, _BESIDE.format(temporary=temporary), "" if decode else _DECODER, append)


def put_file(path: bytes, temporary: str, checksum: str, mode: str) -> str:
    """Checks the temporary file and moves it to its place.

    Args:
        path: The place.
        temporary: The name of the temporary file.
        checksum: What `cksum` must print.
        mode: The new file's mode, as octal digits; "" for that of the file in its place, or else what the umask allows.
    """
    permissions = (
        f'chmod {mode} "$t"'
        if mode
        else f"""\
if [ -e "$p" ]; then
set -- $(ls -ldn "$p")
{_PERMISSIONS}chown "$3:$4" "$t" 2>/dev/null
chmod "$o" "$t"
else chmod =rw "$t"; fi"""
    )
    put = f"""\
if [ "$(cksum <"$t")" != "{checksum}" ]; then rm -rf "$t"; exit {DIFFERS}; fi
[ ! -d "$p" ] || {{ rm -rf "$t"; exit {IS_A_DIRECTORY}; }}
{{ {permissions}
}} && mv -f "$t" "$p" || {{ s=$?; rm -rf "$t"; exit $s; }}
"""
    return _script(path, _BESIDE.format(temporary=temporary), put)


#: `$p` and `$t` are absolute here, and the current directory is the unpacked tree. First it is checked that nothing is
#: in the way; then directories are made, and files moved, each in one step.
_MERGE = f"""\
x=$(find . -type d -exec sh -c 'p=$1; shift; for n; do
[ ! -e "$p/$n" ] || [ -d "$p/$n" ] || {{ printf "%s\\n" "$n: Not a directory" >&2; echo {NOT_A_DIRECTORY}; }}; done
' sh "$p" {{}} + ; find . ! -type d -exec sh -c 'p=$1; shift; for n; do
[ -L "$p/$n" ] || [ ! -d "$p/$n" ] || {{ printf "%s\\n" "$n: Is a directory" >&2; echo {IS_A_DIRECTORY}; }}; done
' sh "$p" {{}} + )
[ -z "$x" ] || {{ cd /; rm -rf "$t"; exit 1; }}
x=$(find . -type d -exec sh -c 'p=$1; shift; for n; do [ -d "$p/$n" ] || mkdir "$p/$n" || echo x; done
' sh "$p" {{}} + && find . ! -type d -exec sh -c 'p=$1; shift; for n; do
[ ! -L "$p/$n" ] || rm -f "$p/$n"; mv -f "$n" "$p/$n" || echo x; done
' sh "$p" {{}} + ) && [ -z "$x" ] || {{ cd /; rm -rf "$t"; exit 1; }}
"""


def put_tree(path: bytes, temporary: str, checksum: str, mode: int) -> str:
    """Checks the archive, unpacks it, and moves the tree to its place, or merges it into the directory there."""
    put = f"""\
if [ "$(cksum <"$t/a")" != "{checksum}" ]; then rm -rf "$t"; exit {DIFFERS}; fi
case $p in /*) ;; *) p=$PWD/$p t=$PWD/$t ;; esac
mkdir "$t/x" && tar -x -p -o -f "$t/a" -C "$t/x" && rm -f "$t/a" || {{ s=$?; rm -rf "$t"; exit $s; }}
if [ -d "$p" ]; then
cd "$t/x" || exit 1
{_MERGE}cd /
else
mv "$t/x" "$p" && chmod {mode:o} "$p" || {{ s=$?; rm -rf "$t"; exit $s; }}
fi
rm -rf "$t"
"""
    return _script(path, _BESIDE.format(temporary=temporary), put)


def change_modes(path: bytes, changes: Sequence[Tuple[int, bytes]]) -> List[str]:
    """Sets the permissions of directories below a path, by as many scripts as that takes.

    Unpacking needs directories that can be written, so those that cannot get their permissions last.
    """
    made: List[str] = []
    lines: List[str] = []
    for mode, name in changes:
        lines.append(f'{assigned("n", name)}chmod {mode:o} "$p/$n" || exit 1\n')
        if sum(map(len, lines)) > _LONG:
            made.append(_script(path, *lines))
            lines = []
    return [*made, _script(path, *lines)] if lines else made


def remove_beside(path: bytes, temporary: str) -> str:
    """Removes the temporary file or directory of a write, if there is one."""
    return _script(path, _BESIDE.format(temporary=temporary), 'rm -rf "$t"\n')


# Trees and lists: what is too large for one command is kept in a temporary file.


def pack(path: bytes, temporary: str) -> str:
    """Makes an archive of a directory as a temporary file; prints the directory's mode and the file's path."""
    make = f"""\
need tar base64 tr head dd cksum
[ -e "$p" ] || gone "$p"
[ -d "$p" ] || exit {NOT_A_DIRECTORY}
{_TEMPORARY.format(temporary=temporary, found='(umask 077 && : >"$t") 2>/dev/null')}
(cd "$p") || exit 1
set -- $(ls -ldnL "$p"); printf '%s\\n' "$1"
(cd "$p" && tar -c -f "$t" .) || {{ s=$?; rm -f "$t"; exit $s; }}
printf %s "$t" | base64 | tr -d '\\n'
"""
    return _script(path, make)


def entries(path: bytes, temporary: str) -> str:
    """Prints the entries of a directory as base64 text, or where a temporary file with that text is.

    Each entry is its mode in hexadecimal, size and time, then `./` and its name, then `/` and a line break. Names may
    contain line breaks, but no slash.
    """
    make = f"""\
need base64 tr find
[ -e "$p" ] || gone "$p"
[ -d "$p" ] || exit {NOT_A_DIRECTORY}
(cd "$p") || exit 1
ls "$p/" >/dev/null || exit 1
if stat -c %f / >/dev/null 2>&1; then o=-c w='%f %s %Y %n/'
elif stat -f %Xp / >/dev/null 2>&1; then o=-f w='%Xp %z %m %N/'
else die {TOOL_MISSING} "{NEEDS}stat"; fi
b=$(cd "$p" && find . ! -name . -prune -exec stat "$o" "$w" {{}} + | base64 | tr -d '\\n')
if [ ${{#b}} -le {PIECE} ]; then printf 'here %s' "$b"; exit; fi
{_TEMPORARY.format(temporary=temporary, found='(umask 077 && : >"$t") 2>/dev/null')}
printf %s "$b" >"$t" || {{ rm -f "$t"; exit 1; }}
printf 'there '; printf %s "$t" | base64 | tr -d '\\n'
"""
    return _script(path, make)


def remove_temporary(temporary: str) -> str:
    """Removes the temporary file of a tree or list, if there is one."""
    return _script(b"/", _TEMPORARY.format(temporary=temporary, found='[ -f "$t" ]'), 'rm -f "$t"\n')


# The rest.


def exists(path: bytes) -> str:
    """Prints whether there is a file or directory."""
    return _script(path, 'if [ -e "$p" ]; then echo yes; else echo no; fi\n')


def remove(path: bytes, *, recursive: bool) -> str:
    """Removes a file, a link, or a directory."""
    directory = 'rm -rf "$p"' if recursive else f'[ -z "$(ls -A "$p")" ] || exit {NOT_EMPTY}; rmdir "$p"'
    return _script(
        path,
        f"""\
[ -e "$p" ] || [ -L "$p" ] || gone "$p"
[ ! -d "$p" ] || [ -L "$p" ] || {{ case $(cd "$p" && pwd -P) in /|"$(pwd -P)") exit {IS_ROOT} ;; esac; }}
if [ -d "$p" ] && [ ! -L "$p" ]; then {directory}
else rm -f "$p"; fi || exit 1
""",
    )
