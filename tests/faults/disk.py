"""What a disk may hold after the power went: a model of files and folders that nobody had synced.

The strict reading of POSIX: a file's bytes are safe once the file was synced, a name once its folder was. What
was not, may be there, in part (in sectors of 512 bytes), or not at all, whatever came before or after it.
"""
import os

SECTOR = 512


class File:
    def __init__(self):
        self.live, self.safe = bytearray(), b""
        self.pending = [] # writes since the last sync: (offset, bytes), or (size, None) for a truncation

    def write(self, at, data):
        put(self.live, at, data)
        self.pending.append((at, bytes(data)))

    def truncate(self, size):
        resize(self.live, size)
        self.pending.append((size, None))

    def sync(self):
        self.safe, self.pending = bytes(self.live), []

    def after(self, rng, survives):
        """Its bytes after the power came back; survives: how likely an unsynced write is to be there."""
        data = bytearray(self.safe)
        for at, what in self.pending:
            if rng.random() >= survives:
                continue
            if what is None:
                resize(data, at)
            elif rng.random() < 0.5:
                put(data, at, what)
            else: # torn: some of its sectors
                first = at // SECTOR
                for sector in range(first, (at + len(what) - 1) // SECTOR + 1 if what else first):
                    a, b = max(at, sector * SECTOR), min(at + len(what), (sector + 1) * SECTOR)
                    if rng.random() < 0.5:
                        put(data, a, what[a - at:b - at])
        return bytes(data)


class Folder:
    def __init__(self):
        self.live, self.safe = {}, {}


def put(data, at, what):
    if len(data) < at + len(what):
        data.extend(bytes(at + len(what) - len(data)))
    data[at:at + len(what)] = what


def resize(data, size):
    del data[size:]
    data.extend(bytes(size - len(data)))


class Disk:
    """Follows the calls that change what is below `top`, from what is there; after() is a state to come back to."""

    def __init__(self, top):
        self.top = top
        self.root = Folder()
        self.add(self.root, top)
        self.renames = [] # changes of names that no sync covers, in order: lists of (folder, name, node or None)
        self.offsets = {}

    def add(self, folder, path):
        """What is there already is safe."""
        if os.path.isdir(path):
            node = Folder()
            for name in sorted(os.listdir(path)):
                self.add(node, os.path.join(path, name))
        elif os.path.isfile(path):
            node = File()
            with open(path, "rb") as f:
                node.live = bytearray(f.read())
            node.safe = bytes(node.live)
        else:
            return
        folder.live[os.path.basename(path)] = folder.safe[os.path.basename(path)] = node

    def walk(self, path):
        """The folder and the name that path is, or (None, None) outside."""
        path = os.path.normpath(path)
        if not (path + "/").startswith(self.top + "/"):
            return None, None
        parts = [p for p in os.path.relpath(path, os.path.dirname(self.top)).split("/") if p]
        folder = self.root
        for p in parts[:-1]:
            folder = folder.live.get(p)
            if not isinstance(folder, Folder):
                return None, None
        return folder, parts[-1]

    def node(self, path):
        folder, name = self.walk(path)
        return folder.live.get(name) if folder else None

    def change(self, *changes):
        for folder, name, node in changes:
            if node is None:
                folder.live.pop(name, None)
            else:
                folder.live[name] = node
        self.renames.append(list(changes))

    def sync_folder(self, folder):
        """Its names are safe; of a rename out of it or into it, only its own side."""
        folder.safe = dict(folder.live)
        self.renames = [left for left in ([c for c in group if c[0] is not folder] for group in self.renames) if left]

    def happen(self, call):
        """`call` was made and worked."""
        name = call.name
        if name in ("open", "openat"):
            folder, base = self.walk(call.path)
            if folder is None:
                return
            if call.flags & os.O_CREAT and base not in folder.live:
                self.change((folder, base, File()))
            node = folder.live.get(base)
            if isinstance(node, File) and call.flags & os.O_TRUNC:
                node.truncate(0)
            self.offsets[call.path] = 0
        elif name in ("write", "pwrite64"):
            node = self.node(call.path)
            if isinstance(node, File):
                at = call.args[3] if name == "pwrite64" else self.offsets.get(call.path, 0)
                node.write(at, call.bytes)
                if name == "write":
                    self.offsets[call.path] = at + len(call.bytes)
        elif name == "ftruncate":
            node = self.node(call.path)
            if isinstance(node, File):
                node.truncate(call.args[1])
        elif name in ("fsync", "fdatasync"):
            node = self.node(call.path)
            if isinstance(node, File):
                node.sync()
            elif node:
                self.sync_folder(node)
            elif call.path == os.path.dirname(self.top):
                self.sync_folder(self.root)
        elif name in ("mkdir", "mkdirat"):
            folder, base = self.walk(call.path)
            if folder is not None and base not in folder.live:
                self.change((folder, base, Folder()))
        elif name in ("unlink", "unlinkat", "rmdir"):
            folder, base = self.walk(call.path)
            if folder is not None:
                self.change((folder, base, None))
        elif name in ("rename", "renameat", "renameat2"):
            (a, x), (b, y) = self.walk(call.path), self.walk(call.path2)
            if a is not None and b is not None:
                swapped = b.live.get(y) if name == "renameat2" and call.args[4] & 2 else None
                self.change((a, x, swapped), (b, y, a.live[x]))

    def after(self, rng, how):
        """A state that the power may leave, as {path below top: bytes, or None for a folder}. how: "nothing" unsynced
        is there, "names" are in their order up to some moment, or "any" of them, each by chance."""
        names = {}

        def safe(folder):
            return names.setdefault(folder, dict(folder.safe))

        cut = rng.randint(0, len(self.renames))
        for i, group in enumerate(self.renames):
            if how == "nothing" or (how == "names" and i >= cut) or (how == "any" and rng.random() < 0.5):
                continue
            for folder, name, node in group:
                if node is None:
                    safe(folder).pop(name, None)
                else:
                    safe(folder)[name] = node
        survives = {"nothing": 0, "names": rng.choice((0, 0.5, 1)), "any": 0.5}[how]
        state = {}

        def put_all(folder, path, depth):
            for name, node in sorted(safe(folder).items()):
                if isinstance(node, File):
                    state[path + name] = node.after(rng, survives)
                elif depth < 16:
                    state[path + name] = None
                    put_all(node, path + name + "/", depth + 1)

        put_all(self.root, "", 0)
        return state


def write_state(state, top):
    """Lay a state of after() out as the folder `top`."""
    for path, data in sorted(state.items()):
        at = os.path.join(top, *path.split("/")[1:])
        if data is None:
            os.makedirs(at, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(at), exist_ok=True)
            with open(at, "wb") as f:
                f.write(data)
