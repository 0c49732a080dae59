from .numpy import check_target as check_target
from .numpy import cross_entropy as cross_entropy
from .numpy import cross_entropy_rows as cross_entropy_rows
from .numpy import log_softmax as log_softmax
from .numpy import logsumexp as logsumexp
from .numpy import logsumexp_rows as logsumexp_rows
from .numpy import softmax as softmax

FLAGS: str
NAME: str
