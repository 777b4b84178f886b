"""The schedules: one file a member, found by their `type` tag."""

from typing import TYPE_CHECKING

from scaling.schedules.base import Schedule
from scaling.spec import family

if TYPE_CHECKING:
    ScheduleSpec = Schedule
else:
    ScheduleSpec = family(__name__, Schedule)

__all__ = ["Schedule", "ScheduleSpec"]
