"""A moderation endpoint as a prompt classifier: P(harm) a request.

    P(harm) = max over the service's categories of its score; 1 or 0 where it only flags

Covered: any service with OpenAI's `moderations`; what it reads is `text_of` the request. One
request a call, several calls at a time, tried again as `endpoints` says. A request that gets no
answer after all tries is NaN and counted as failed; a bad key, model or address is raised.
Not covered: images, what the service's own policy leaves out, lengths (a service refuses what is
too long for it).
Overall: as good as the service, which sees every prompt. Its score is no calibrated probability:
set the threshold on benign prompts of yours.
"""

import math
from collections.abc import Sequence

from sternpost.endpoints import Counts, Moderated, Moderation, each
from sternpost.errors import EndpointError
from sternpost.judges.classifier import text_of
from sternpost.types import Request


class ModerationClassifier:
    """P(harm) of each request, by a moderation service."""

    def __init__(self, service: Moderation, workers: int = 4) -> None:
        """`workers`: requests asked at a time."""
        self.service, self.workers = service, workers
        self.name = service.name

    @property
    def counts(self) -> Counts:
        """What became of the requests."""
        return self.service.counts

    def __call__(self, requests: Sequence[Request]) -> list[float]:
        """P(harm) in [0, 1] of each request, in order; NaN where the service gave no answer."""
        return [math.nan if isinstance(said, EndpointError) else said.harm
                for said in self.moderated(requests)]

    def moderated(self, requests: Sequence[Request]) -> list[Moderated | EndpointError]:
        """What the service said of each request, its categories too, or why it said nothing."""
        texts = [text_of(request) for request in requests]
        said = dict(each(lambda at: self.service(texts[at]), len(texts), self.workers))
        return [said[at] for at in range(len(texts))]
