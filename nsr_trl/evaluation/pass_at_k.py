"""placeholder until the evaluation room lands"""
import numpy as np
def pass_at_k(num_samples, num_correct, k):
    out=[]
    for n,c in zip(num_samples,num_correct):
        out.append(1.0 if n-c<k else 1-np.prod(1-k/np.arange(n-c+1,n+1)))
    return np.array(out)
