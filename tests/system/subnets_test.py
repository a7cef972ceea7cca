"""A host that loses one of its two SAN subnets, silently or by a pulled cable, while it writes: no
error, every block is what was written last, and the pause is bounded. How long the pause is belongs
to the measurements; here it must only be far below what ordinary time-outs take.
"""

from holdfast import case
from holdfast.subnet_case import SubnetCase
from holdfast.target import slowness

LONGEST_PAUSE_S = 5.0


class Subnet(SubnetCase):
    def loses(self, number, lose, restore):
        self.longest_pause()
        lose(number)
        self.assertLess(self.longest_pause(), LONGEST_PAUSE_S * slowness())
        self.check()
        self.assertIn("ACTIVE", self.mpio.states())
        restore(number)
        self.both()
        self.longest_pause()
        self.check()

    def test_silent_loss_of_each_subnet(self):
        self.loses(0, self.net.silence, self.net.mend)
        self.loses(1, self.net.silence, self.net.mend)

    def test_pulled_cable_of_each_subnet(self):
        self.loses(0, self.net.pull, self.net.plug)
        self.loses(1, self.net.pull, self.net.plug)


if __name__ == "__main__":
    case.main()
