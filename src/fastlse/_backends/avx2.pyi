from .numpy import binary_cross_entropy as binary_cross_entropy
from .numpy import binary_cross_entropy_plain as binary_cross_entropy_plain
from .numpy import check_target as check_target
from .numpy import cross_entropy as cross_entropy
from .numpy import cross_entropy_rows as cross_entropy_rows
from .numpy import elementwise as elementwise
from .numpy import elementwise_plain as elementwise_plain
from .numpy import gradient_of_states as gradient_of_states
from .numpy import log1mexp as log1mexp
from .numpy import log_softmax as log_softmax
from .numpy import log_softmax_rows as log_softmax_rows
from .numpy import log_sums as log_sums
from .numpy import logcumsumexp as logcumsumexp
from .numpy import logsubexp as logsubexp
from .numpy import logsumexp as logsumexp
from .numpy import logsumexp_and_softmax_rows as logsumexp_and_softmax_rows
from .numpy import logsumexp_rows as logsumexp_rows
from .numpy import row_states as row_states
from .numpy import segment_logsumexp as segment_logsumexp
from .numpy import segment_softmax as segment_softmax
from .numpy import softmax as softmax
from .numpy import softmax_of_states as softmax_of_states
from .numpy import softmax_rows as softmax_rows

FLAGS: str
NAME: str

def stream_from(n_bytes: int) -> int: ...
