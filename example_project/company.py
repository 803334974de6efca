"""What the intranet shows: news, payslips and the payroll of Tidewater Works. All of it is made up."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

COMPANY = "Tidewater Works"


@dataclass(frozen=True)
class Notice:
    """One item on the notice board."""

    published: date
    title: str
    text: str
    author: str


@dataclass(frozen=True)
class Payslip:
    """One month's pay of one employee, in whole euros."""

    role: str
    monthly: int
    allowance: int
    tax: int
    social: int
    account: str
    earlier: tuple[tuple[str, int], ...]

    @property
    def gross(self) -> int:
        return self.monthly + self.allowance

    @property
    def deductions(self) -> int:
        return self.tax + self.social

    @property
    def net(self) -> int:
        return self.gross - self.deductions


@dataclass(frozen=True)
class Department:
    """One line of the monthly payroll, in whole euros."""

    name: str
    lead: str
    people: int
    gross: int
    overtime: int

    @property
    def total(self) -> int:
        return self.gross + self.overtime


PAY_MONTH = "October 2026"
PAY_DAY = date(2026, 10, 28)

NEWS = (
    Notice(
        date(2026, 10, 19),
        "Slipway 2 is closed until Thursday",
        "The winch gets its new brake. Boats that were booked in have been moved to slipway 1; the yard office has "
        "the list.",
        "Yard office",
    ),
    Notice(
        date(2026, 10, 14),
        "Winter hours in the canteen",
        "From November the canteen opens at half past six, so that the early shift gets a hot breakfast again.",
        "Canteen",
    ),
    Notice(
        date(2026, 10, 6),
        "A second factor for pay pages",
        "Salary, payroll and the network drive password ask for a second factor from today. You are asked once in "
        "each session, and your phone is all you need.",
        "IT",
    ),
    Notice(
        date(2026, 9, 25),
        "Welcome, Carl",
        "Carl Meyer joins the electrical workshop. You find him next to the battery store.",
        "People team",
    ),
)

#: By the employee's address, which is what the example's accounts are known by.
PAYSLIPS = {
    "anna@tidewater.example": Payslip(
        role="Naval architect",
        monthly=5480,
        allowance=240,
        tax=1287,
        social=1093,
        account="DE•• •••• 4217",
        earlier=(("September 2026", 3340), ("August 2026", 3198), ("July 2026", 3198)),
    ),
    "ben@tidewater.example": Payslip(
        role="Crane operator",
        monthly=3920,
        allowance=410,
        tax=742,
        social=841,
        account="DE•• •••• 8003",
        earlier=(("September 2026", 2747), ("August 2026", 2861), ("July 2026", 2690)),
    ),
    "carl@tidewater.example": Payslip(
        role="Electrician",
        monthly=3610,
        allowance=120,
        tax=598,
        social=729,
        account="DE•• •••• 5591",
        earlier=(("September 2026", 2403),),
    ),
}

PAYROLL = (
    Department("Design office", "Anna Lindqvist", 6, 31_260, 480),
    Department("Slipways and cranes", "Ben Okafor", 11, 43_870, 3_915),
    Department("Electrical workshop", "Ilse Brandt", 5, 19_340, 760),
    Department("Paint and joinery", "Tomasz Zieliński", 8, 28_120, 1_140),
    Department("Office and canteen", "Maren Holt", 4, 13_690, 0),
)
