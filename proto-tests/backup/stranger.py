#!/usr/bin/env python3
"""Lists an archive's records as JSON lines: topic, partition, offset, key, value (base64, or null).

Written from docs/archive-format.md alone, with Python's standard library: what is sealed is refused, and blocks and batches that are
compressed with anything but gzip are told on standard error and left out.

    python3 stranger.py FOLDER
"""

import base64
import gzip
import hashlib
import json
import pathlib
import struct
import sys


def crc32c_table():
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


TABLE = crc32c_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


MASK = 0xFFFFFFFF
IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
ORDER = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
MIXED = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15), (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))
CHUNK_START, CHUNK_END, PARENT, ROOT = 1, 2, 4, 8


def turned(value, by):
    return (value >> by | value << 32 - by) & MASK


def compressed(chain, words, counter, length, flags):
    """BLAKE3's compression function, its first eight words."""
    v = [*chain, *IV[:4], counter & MASK, counter >> 32, length, flags]
    for _ in range(7):
        for number, (a, b, c, d) in enumerate(MIXED):
            for word, first, second in ((words[2 * number], 16, 12), (words[2 * number + 1], 8, 7)):
                v[a] = v[a] + v[b] + word & MASK
                v[d] = turned(v[d] ^ v[a], first)
                v[c] = v[c] + v[d] & MASK
                v[b] = turned(v[b] ^ v[c], second)
        words = [words[at] for at in ORDER]
    return [v[at] ^ v[at + 8] for at in range(8)]


def chained(data, counter, root):
    """The chaining value of a tree over these bytes: chunks of 1,024, and left a power of two of them."""
    if len(data) > 1024:
        left = 1024 << (((len(data) - 1) // 1024).bit_length() - 1)
        words = chained(data[:left], counter, 0) + chained(data[left:], counter + left // 1024, 0)
        return compressed(IV, words, 0, 64, PARENT | root)
    value, blocks = IV, [data[at : at + 64] for at in range(0, len(data), 64)] or [b""]
    for number, block in enumerate(blocks):
        is_last = number + 1 == len(blocks)
        flags = (0 if number else CHUNK_START) | (CHUNK_END | root if is_last else 0)
        value = compressed(value, struct.unpack("<16I", block.ljust(64, b"\0")), counter, len(block), flags)
    return value


def blake3(data):
    return struct.pack("<8I", *chained(data, 0, ROOT)).hex()


def need(truth, what):
    if not truth:
        sys.exit(f"damaged: {what}")


def two_lines(path, magic, versions):
    """Line 2 of a label or manifest, and the SHA-256 of the file."""
    data = path.read_bytes()
    need(data.count(b"\n") == 2 and data.endswith(b"\n"), f"{path}: two lines are expected")
    first, second, _ = data.split(b"\n")
    envelope = json.loads(first)
    need(envelope["magic"] == magic and envelope["version"] in versions, f"{path}: magic or version")
    need(envelope["sha256"] == hashlib.sha256(second).hexdigest(), f"{path}: SHA-256")
    return json.loads(second), hashlib.sha256(data).hexdigest()


def units(folder, chain):
    """The manifests of a chain, in order."""
    previous, out = None, []
    for number, path in enumerate(sorted((chain / "units").glob("*.json")), start=1):
        manifest, digest = two_lines(path, "kmirror-manifest", (1, 2))
        need(manifest["unit"] == number and manifest["previous"] == previous, f"{path}: it does not follow")
        previous = digest
        out.append(manifest)
    return out


def newest(folder):
    for chain in sorted((folder / "chains").iterdir(), reverse=True):
        if (chain / "pruned").exists():
            continue
        found = units(folder, chain)
        if any(u["is_complete"] and not any(p["problem"] for p in u["partitions"]) for u in found):
            return found
    sys.exit("no chain restores by itself")


def blocks(folder, part):
    """Payloads of the blocks of a segment that hold batches, by walking from the front."""
    data = (folder / part["object"]).read_bytes()
    is_whole = blake3(data) == part["blake3"] if "blake3" in part else hashlib.sha256(data).hexdigest() == part["sha256"]
    need(len(data) == part["bytes"] and is_whole, part["object"])
    magic, version, flags, length = struct.unpack_from(">8sHHI", data)
    need(magic == b"KMIRSEG1" and version == 1, f"{part['object']}: magic or version")
    need(struct.unpack_from(">I", data, length - 4)[0] == crc32c(data[: length - 4]), "a header's checksum")
    index_at, index_bytes, crc, end = struct.unpack(">QII8s", data[-24:])
    need(end == b"KMIREND1" and crc == crc32c(data[-24:-12]), "a trailer")
    need(data[index_at + index_bytes : -24] == data[:length], "the second header is not the first")
    if flags & 1:
        sys.exit(f"{part['object']} is sealed: Python's standard library has no ChaCha20-Poly1305")
    at, due = length, 0
    while True:
        stored, kind, how, zero, raw, number, _, _, _, crc = struct.unpack_from(">IBBHIIqqqI", data, at)
        payload = data[at + 44 : at + 44 + stored]
        need(zero == 0 and number == due and crc == crc32c(data[at : at + 40] + payload), f"block {due}")
        if kind == 2:
            need(at == index_at and index_bytes == 44 + stored, "the index is not where the trailer says")
            return
        if how & 1:
            print(f"{part['object']}: block {number} is zstd, and left out", file=sys.stderr)
        else:
            need(len(payload) == raw, f"bytes of block {number}")
            yield payload
        at, due = at + 44 + stored, due + 1


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value >> 1 ^ -(value & 1), at


def blob(data, at):
    length, at = varint(data, at)
    return (None, at) if length < 0 else (data[at : at + length], at + length)


def records(payload, aborted):
    """Offset, key and value of what counts in a block: Kafka's record batches, v2."""
    at = 0
    while at < len(payload):
        base, length, _, magic, crc, attributes, _, _, _, producer, _, _, count = struct.unpack_from(
            ">qiibIhiqqqhii", payload, at
        )
        body = payload[at + 61 : at + 12 + length]
        need(magic == 2 and crc == crc32c(payload[at + 21 : at + 12 + length]), f"the batch at offset {base}")
        at += 12 + length
        gone = any(a["producer_id"] == producer and a["first_offset"] <= base <= a["last_offset"] for a in aborted)
        if attributes & 0x20 or (attributes & 0x10 and gone):
            continue
        if attributes & 7 == 1:
            body = gzip.decompress(body)
        elif attributes & 7:
            print(f"the batch at offset {base} is compressed with codec {attributes & 7}, and left out", file=sys.stderr)
            continue
        place = 0
        for _ in range(count):
            length, place = varint(body, place)
            ends = place + length
            _, place = varint(body, place + 1)
            delta, place = varint(body, place)
            key, place = blob(body, place)
            value, place = blob(body, place)
            yield base + delta, key, value
            place = ends


def main():
    folder = pathlib.Path(sys.argv[1])
    label, _ = two_lines(folder / "archive.json", "kmirror-archive", (1,))
    logs, latest = {}, {}
    for unit in newest(folder):
        need(unit["cluster_id"] == label["cluster_id"], "a manifest of another cluster")
        for part in unit["partitions"]:
            latest[part["topic"]] = part["topic_id"]
            logs.setdefault((part["topic"], part["topic_id"], part["partition"]), []).append(part)
    text = lambda data: None if data is None else base64.b64encode(data).decode()
    for (topic, topic_id, partition), parts in sorted(logs.items()):
        if latest[topic] != topic_id:
            continue
        begins = next((part["from"] for part in parts if part["to"] > part["from"]), 0)
        aborted = [one for part in parts for one in part["aborted"]]
        for segment in (segment for part in parts for segment in part["segments"]):
            for payload in blocks(folder, segment):
                for offset, key, value in records(payload, aborted):
                    if offset >= begins:
                        line = {"topic": topic, "partition": partition, "offset": offset}
                        print(json.dumps(line | {"key": text(key), "value": text(value)}))


if __name__ == "__main__":
    main()
