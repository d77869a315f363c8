(()=>{let d=document,p=6e4,w=p,t,at=Date.now(),
bare=x=>x.innerHTML.replace(/ open=""/g,""),
local=m=>(m.querySelectorAll("time").forEach(x=>{x.title=x.textContent;x.textContent=new Date(x.dateTime).toLocaleString([],{dateStyle:"medium",timeStyle:"short"})}),m),
next=()=>{clearTimeout(t);d.hidden||(t=setTimeout(ask,w*(.9+Math.random()/5)))},
ask=async()=>{let m=d.querySelector("main"),off=d.getElementById("off"),a=0;try{let r=await fetch(location.pathname,{cache:"no-cache"});a=1e3*r.headers.get("Retry-After")||0;if(!r.ok)throw 0;let f=new DOMParser().parseFromString(await r.text(),"text/html"),n=local(f.querySelector("main"));m.querySelectorAll("[open]").forEach(x=>{(x=f.getElementById(x.id))&&(x.open=!0)});if(bare(n)!=bare(m)){d.title=f.title;m.replaceWith(n)}w=p;at=Date.now();off.hidden=!0}catch{w=Math.max(Math.min(2*w,6e5),a);off.hidden=!1}next()};
d.addEventListener("visibilitychange",()=>d.hidden||Date.now()-at<p?next():ask());local(d);next()})()
