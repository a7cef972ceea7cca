"""The stamps by which the other tests know old data from new."""

import unittest

from holdfast import case, stamp


class Stamps(unittest.TestCase):
    def test_each_difference_is_found_and_named(self):
        good = stamp.block(8192, 7, "a")
        stamp.check(good, 8192, 7, "a")
        half = stamp.block(8192, 6, "a")[:2048] + good[2048:]
        torn = good[:700] + bytes([good[700] ^ 1]) + good[701:]
        for data, said in ((stamp.block(8192, 6, "a"), "byte 8192 holds write 6 of a"),
                           (half, "byte 8192 holds write 6 of a"),
                           (good[:2048] + half[:2048], "byte 10240 holds write 6 of a to byte 8"),
                           (stamp.block(8192, 7, "b"), "write 7 of b"),
                           (stamp.block(4096, 7, "a"), "write 7 of a to byte 4096"),
                           (bytes(4096), "zeroes"), (b"x" * 4096, "nobody stamped"),
                           (torn, "byte 8704 holds write 7 of a to byte 8704, torn")):
            with self.assertRaisesRegex(AssertionError, said):
                stamp.check(data, 8192, 7, "a")


if __name__ == "__main__":
    case.main()
