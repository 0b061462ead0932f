"""What a cluster's file must hold before `ray up` starts machines that cost money."""
