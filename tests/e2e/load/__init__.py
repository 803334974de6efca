"""A site on several processes, with some hundreds of users, while its workers are killed and its OP is restarted."""

from __future__ import annotations

#: What `/recent/` asks for, and how wrong clocks may be, in seconds: the site's settings have it, and the checker too.
RECENT_MAX_AGE = 10
LEEWAY = 1

#: After how many seconds a sign-in is renewed.
RENEW_AFTER = 3

#: The cookie of a browser that wants to be remembered: for it the site asks for a refresh token.
REMEMBER = "remember"
